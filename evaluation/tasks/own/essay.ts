/** The essay haystack where the user brings none: short essays written for this purpose. */
import { sentencesOf } from '../essay.ts';

let sentences: string[] | null = null;
/** Its sentences, in order. */
export function ownEssay(): readonly string[] {
  sentences ??= sentencesOf(ESSAYS, 'own essay');
  return sentences;
}

const ESSAYS = `
My grandfather kept a workshop behind the house, and nothing in it was ever finished. A clock lay open on the bench for as long as I can remember, its wheels
sorted into the lids of jam jars, and next to it stood a chair that had been waiting for its fourth leg since before I was born. Visitors thought him lazy. He
was the busiest man I have known. He used to say that a thing which is finished can only be used, while a thing which is not finished can still be understood,
and that of the two pleasures the second lasted longer. When I was small I took this for an excuse. Later I took it for wisdom. Now, with a bench of my own and
a clock of my own in pieces on it, I think it was simply a description of what went on in that room.

There is a kind of knowledge that only comes while the cover is off. You may look at the face of a clock for years and know the time, which is all that a clock
wants to tell you. Open the back and it begins to tell you about itself. This wheel is worn on one side only, so it has been standing in a slope. That screw is
younger than its neighbours, so somebody was here before you and lost the old one in the grass. The dust is different in the lower half. None of it is useful, and
yet after an afternoon of it you close the case with the feeling of having been told a secret. People who mend things for a living have told me that they know
this feeling well, and that it is the reason why they are always late.

The trouble is that the world is not arranged for the sake of those who want to understand it. It is arranged for those who want the time. A shop that sells clocks
would be foolish to sell them open, and a school which let every child take the lesson apart would never reach the end of the book. So we learn to leave the cover
on. We learn it so well that by the age of thirty most of us have stopped noticing that there is a cover. I have met people who drive a car each day and could not
say under which end of it the engine lies. They are not stupid, far from it. They have merely been well served.

I do not want to praise the good old days in which everyone could shoe a horse. In the good old days most people could do one thing, and did it from dawn until
their backs gave out. What I should like to praise is smaller. It is the habit of keeping one thing open. One is enough. It may be a clock, or a language that
nobody in the family speaks, or the question of why the bread turns out differently on wet days. You need not finish it. You need not even be good at it. But keep
it on the bench where you will see it in passing, and from time to time, when the house is quiet, sit down and turn one of its wheels with your finger, and look
what moves.

Bread, since I have mentioned it, is a case of its own. I began to bake in the winter when the road was closed for three weeks and the shop had nothing left but
vinegar. The first loaf was a stone. The second was a stone with a hole in it. I wrote down what I had done each time, in a notebook with columns, because I
believed that bread was a matter of numbers, and that somewhere between the first column and the last there must be a mistake which I could find and remove. There
was no mistake. The flour had been ground in another month, the kitchen was colder on Sundays, the yeast was tired. What the columns taught me in the end was to stop
reading them and put my hand into the dough.

A baker from whom I later took lessons never measured water. When I asked him how much, he answered: until it is right. I asked how one could tell. He took my
wrist and pushed my hand into his trough, and then into mine, and said nothing, and after the fourth morning I could tell. I still cannot put it into words. It is
softer than the lobe of an ear and it wants to follow your hand when you take it away, but those are only words which I found afterwards, and I doubt that they would
have helped me before. There is much talk about knowledge that can be written down and knowledge that cannot, as though they were two heaps. In the bakery they
were one heap. He had a scale as well, a very good one, and he used it for the salt.

He told me that salt is the only thing in a bakery which does not forgive. Too much water makes a flat loaf, and people eat flat loaves. Too little yeast makes
you wait, and waiting is free. But with twice the salt you may as well feed the loaf to the river. So he measured what did not forgive and felt what did, and I
have come across few better rules for any kind of work. An accountant whom I told about it laughed and said that her trade was nothing but salt. A nurse said that
hers was half and half, and that the difficulty of being young in it was to learn which half one was standing in.

The river into which the loaves went is not much of a river. On the map it has a name, and in the village it is called the water. It comes down from the moor
brown as tea, goes under two bridges, and turns a wheel that no longer grinds anything, since the miller's sons went to the city and the stones were made into a
flight of steps. Every few years it rises and takes a garden. The old houses stand well back from it, on a shelf of land where no flood has ever come. The new
ones stand close, because the view is better, and because those who built them looked at the water in summer.

I asked the woman who keeps the records of the parish whether nobody had warned them. She said that everybody had. There is a mark on the wall of the church,
higher than my head, with a year beside it which is just beyond the memory of anyone alive. The builders had seen the mark. They had even photographed it. But a
mark on a wall is a story, she said, and a garden running down to the bank is a garden. She did not seem to blame them. In her books there were five such marks,
and before each of them a row of new houses, and the books went back for four hundred years.

It would be easy to conclude that people do not learn. I believe that they learn quite well, but that the lesson has a certain length, like a rope, and that the
river's is longer. What happens every year we know with our hands. What happens every ten years we know by heart. What happens once in a hundred years we know
from hearsay, and one cannot live by hearsay, since there is hearsay about everything. The shelf of land was not found by clever people. It was found by people
whose houses closer by had been taken, one after another, until only those were left standing that stood in the right place. The village looks wise because we cannot
see the houses which are gone.

This thought has followed me since. Whenever I see something old which works well, a tool or a custom or a path that takes the only good way up a hill, I try to
picture all those others that did not work and of which nothing is left. The path was not designed. A thousand people and their sheep took a thousand ways, and the
grass grew back on all but one. It is humbling, though it is a comfort too. It means that one need not be a genius in order to make a good path. One only has to walk,
and to be many, and not to mind too much which of the ways will turn out to have been one's own.

My neighbour does mind. She is a surveyor, and for her a line that wanders is a line which somebody has not yet thought about. We have argued over the path for
years, mostly in winter, when there is time. She says that the sheep found the best way for sheep. With a level and a week of work she could lay a path that children
and old people might use as well, which no amount of trampling would ever have found, because no old person ever got far enough to trample. She is right. I have to
admit that she is right every time, and every time I come away loving the old path more, and I have stopped trying to make both ends of that meet.

She taught me to use the level, in return for bread. It is a small brass telescope with a bubble on its back, and you look through it at a striped pole that someone
else is holding, most often me. What surprised me was how much of her work consists in going back. She measures from the church to the bridge and from the bridge to the
mill, and then, when I am already thinking of supper, all the way from the mill to the church again, only to see whether the hill has the same height on the way
home. It never has. There is always some small difference, no more than the thickness of a coin, and she writes it down with something like satisfaction.

I asked why she did not simply measure more carefully, so that there would be none. She looked at me as the baker had looked. Without the way back, she said, there
would still be a difference, and one would not know of it. The error is always in the line. All you can do is close the line upon itself, so that the error has to
show its face, and then deal it out fairly among all the points, a little to each, in proportion to the road. She called this adjusting, and I thought that I had
seldom heard a more decent way of treating one's mistakes. Nobody is to blame, nothing is hidden, and everybody carries a share.

In my own trade, which is writing letters for people who do not like to write them, there is no such way back. A letter goes out and it is gone. I have written some
thousands of them, to landlords and sons and the tax office, and once to a bishop, and I have seen perhaps a hundred answers. For the rest I must suppose that they did
what they were meant to. It makes one careful at first, and after some years it makes one calm, and then there comes a day on which one notices that calm and careless
feel exactly alike from the inside. On that day I began to keep copies, and to read one old letter each morning before I wrote a new one. I can recommend it to
anyone who has grown too content with himself.

People suppose that the difficulty of letters lies in the words. It lies in finding out what the letter is for. A man came to me who wanted to write to his brother
about a boundary stone. He brought the deeds and a drawing, and he had right on his side as far as I could tell. We worked on it for an hour, and the letter was clear
and firm, and when I read it out to him he began to weep, since he had not spoken to that brother for eleven years and it was not about the stone. We tore it up. The letter which
we sent in the end had four lines, and there was no stone in it. The stone, I am told, is still in the wrong place, and the two of them sit on it in the
evening.

I tell this story too often, because it flatters me. There are other stories. A woman wanted to thank her teacher, and I made it so handsome that the teacher wrote
back to say that it could not possibly be by her. I had put good words where true words had been. Since then I ask people first to tell me what they would say if they were
standing at the door with their hat in their hands, and I write that down, and then I take away as little as I can. Most of them are much better than I am. They only
need to hear it in somebody else's voice, slowly, at a table, with nothing else to be done that morning.

The table matters, by the way. For some years I worked at a counter, with a line of people waiting behind the one I was writing for, and the letters of those years
are bad. They are correct, and all of them are alike. When a person knows that others are waiting, he says what he believes he ought to want. I then moved into the back
room, where there is a stove and a table with a cloth on it, and only two chairs. It costs me about a third of my income. I have tried to explain this to the man from the
bank, and he nodded politely, and made a note, and asked whether I had thought of putting a second table into the room.

We are a village of people who have been asked about a second table. The smith was asked why he did not make gates to a pattern, and the beekeeper why she would not sell
to the hotel. The ferryman was asked most often. There has been talk of a bridge there ever since I came, and each time a plan is drawn up he is invited to the meeting and
asked for his opinion, and every time he says that a bridge would be very convenient. He is not in the least bitter about it. He has rowed across, by his own account, some ninety thousand
times, and he says that on the whole people are worse company on the way to market than on the way home.

I crossed with him last autumn, in a fog so thick that the bank was gone after three strokes. I asked how he kept his direction. He said that he listened: on the near side there
is a dog, on the far side there are the poplars, and in the middle, where one hears neither, there is the pull of the current on the left oar, which is stronger than on
the right until one has passed the deepest place. Then he was silent for a while, so that I could hear it too. I heard nothing at all. I felt how the boat was held
by something and gently let go again, and then came the sound of the leaves, from quite another direction than the one in which I had been looking.

If I had to say what these people have in common, the baker and the surveyor, the ferryman and my grandfather at his bench, I would say that each of them is on speaking
terms with something that cannot speak. It takes a long time to come to that. You cannot hurry it, and you can hardly teach it, though you can sit next to it for a
while with your hand in the dough. And it does not make anybody rich. But I have noticed that such people are rarely lonely, and that they are hardly ever in doubt about
what to do after breakfast, and that when they come to my table they seldom need more than four lines.

As for the clock, I did close it in the end. A child was staying with us who could not fall asleep without hearing something tick, and so I sat up one night and put the
wheels back, in the order in which they lay in the lids. It runs. It loses some minutes in a week, more of them in damp weather, and I know exactly why. On my bench
there now lies a lock without a key, which I found in the wall when we put in the new window. I am not in a hurry with it. Whatever it kept shut has been gone for a hundred
years, and there is still time to find out how it was done.
`;
