/** Questions and paragraphs of the QA tasks where the user brings none. Every place, person and thing in them is invented, so that no model knows it by heart. */
import type { Question, QuestionSet } from '../question-set.ts';

/** One hop: each question is answered by its paragraph. Two hops: the first paragraph leads to the second, which has the answer. */
export function ownQuestions(hops: 1 | 2): QuestionSet {
  const paragraphs = ARTICLES.flatMap(({ title, paragraphs: texts }) => texts.map((text) => ({ text, article: title })));
  const at = ([title, index]: Place): number => {
    const article = ARTICLES.findIndex((one) => one.title === title);
    return ARTICLES.slice(0, article).reduce((before, one) => before + one.paragraphs.length, 0) + index;
  };
  const oneHop = ARTICLES.flatMap(({ title, questions }): Question[] =>
    questions.map(([index, question, ...answers]) => ({ question, answers, paragraphs: [at([title, index])] })),
  );
  const twoHops = TWO_HOPS.map(([question, answer, ...places]): Question => ({ question, answers: [answer], paragraphs: places.map(at) }));
  return { name: 'own questions', paragraphs, questions: hops === 1 ? oneHop : twoHops };
}

type Place = readonly [title: string, paragraph: number];

interface Article {
  readonly title: string;
  readonly paragraphs: readonly string[];
  readonly questions: readonly (readonly [paragraph: number, question: string, ...answers: string[]])[];
}

const ARTICLES: readonly Article[] = [
  {
    title: 'Oskelund',
    paragraphs: [
      'Oskelund is a harbour town on the eastern shore of the Varnic Sea. It was founded in 1311 by salt traders, and its oldest street, the Brine Row, still follows the line of their drying sheds. About 18,400 people live there today.',
      'The town hall of Oskelund is built of yellow brick and was designed by the architect Hedda Quarnström. Its tower holds a bell called Old Margit, which is rung only when a ship is overdue. The bell was last heard in the winter of 1987.',
      'Every August the town holds the Lantern Regatta, in which rowing boats race from the mole to Grebe Island and back after dark. The winning crew is given a barrel of smoked eel and must share it with the crew that comes in last.',
    ],
    questions: [
      [0, 'Who founded the town of Oskelund?', 'salt traders'],
      [1, 'What is the bell in the tower of Oskelund’s town hall called?', 'Old Margit'],
      [2, 'What is given to the winning crew of the Lantern Regatta?', 'a barrel of smoked eel', 'smoked eel'],
    ],
  },
  {
    title: 'Hedda Quarnström',
    paragraphs: [
      'Hedda Quarnström was an architect, born in the mining village of Tollfors as the youngest of nine children. She taught herself to draw on the backs of wage slips, and at nineteen she won a contest for the design of a drinking fountain.',
      'Quarnström’s buildings are known for stairs that are wider at the top than at the bottom. She said that a person who is going up should feel welcomed. Her critics called the manner "the funnel", a name which she later used for her own office.',
      'In her last years Quarnström gave up building and grew pears. Her orchard had forty-one kinds, and she left it to the gardeners who worked there. A pale green pear with a red cheek is named Hedda after her.',
    ],
    questions: [
      [0, 'In which village was Hedda Quarnström born?', 'Tollfors'],
      [1, 'What did critics call the manner of Hedda Quarnström’s stairs?', 'the funnel'],
      [2, 'How many kinds of pears did the orchard of Hedda Quarnström have?', 'forty-one'],
    ],
  },
  {
    title: 'The Merle',
    paragraphs: [
      'The Merle was a three-masted research ship of the Halden Institute. She was launched at Oskelund in 1902 and had a hull of double oak, with a layer of cork between the planks against the pressure of the ice.',
      'On her second voyage the Merle was frozen in for fourteen months off Cape Sorrow. The crew printed a newspaper, the Daily Floe, on the back of sea charts, and nobody was lost. Her cook, Tomas Ibarr, later published the recipes of that winter.',
      'The Merle was sold to a herring company in 1925 and ended as a floating dance hall. Her figurehead, a blackbird with open beak, stands today in the garden of the Museum of Ice in Karvik.',
    ],
    questions: [
      [0, 'What lay between the planks of the Merle’s hull?', 'cork'],
      [1, 'What was the name of the newspaper that the crew of the Merle printed?', 'Daily Floe'],
      [2, 'What does the figurehead of the Merle show?', 'a blackbird'],
    ],
  },
  {
    title: 'Karvik',
    paragraphs: [
      'Karvik lies at the end of a fjord and has no road to the rest of the country; it is reached by a ferry which takes six hours. In winter the sun stays behind the mountain called the Anvil for fifty-three days.',
      'The Museum of Ice in Karvik was opened in a former fish freezer by the teacher Solveig Brant. Its rooms are kept at minus nine degrees, and visitors are lent coats of reindeer felt at the entrance.',
      'When the sun comes back to Karvik, schools close at noon and everybody climbs the Sun Steps behind the church. Children are given doughnuts with cloudberry jam, and the oldest inhabitant blows a cow horn.',
    ],
    questions: [
      [0, 'Behind which mountain does the sun stay in Karvik?', 'the Anvil', 'Anvil'],
      [1, 'At what temperature are the rooms of the Museum of Ice kept?', 'minus nine degrees'],
      [2, 'What jam is in the doughnuts that children get when the sun returns to Karvik?', 'cloudberry'],
    ],
  },
  {
    title: 'Pellam’s bellflower',
    paragraphs: [
      'Pellam’s bellflower is a plant of the high limestone meadows of Ostrava Ridge. It has a single flower of a greyish blue, which opens at dusk and closes before sunrise, and it is pollinated only by the sleeper moth.',
      'The bellflower was first described by the postman Edwin Pellam, who found it beside his round and drew it for eleven summers before he showed the drawings to anyone. He refused to tell where it grew, and his notebooks give all places in a code.',
      'Tea made from the root of the bellflower was drunk by shepherds against snoring. A test by the University of Lind in 1974 found no effect, but noted that the shepherds slept out of hearing of one another.',
    ],
    questions: [
      [0, 'Which insect pollinates Pellam’s bellflower?', 'the sleeper moth', 'sleeper moth'],
      [1, 'What was the occupation of Edwin Pellam?', 'postman'],
      [2, 'Against what did shepherds drink tea from the root of the bellflower?', 'snoring'],
    ],
  },
  {
    title: 'University of Lind',
    paragraphs: [
      'The University of Lind grew out of a school for bridge wardens, and its seal still shows a toll gate. It has five faculties, the smallest of which, the Faculty of Tides, admits only twelve students in a year.',
      'The library of the University of Lind was moved in 1938 by a human chain of citizens, who passed all 212,000 volumes from hand to hand across the river in nine days. Only one book was lost, a guide to swimming.',
      'Rector of the University of Lind from 1961 to 1979 was the geologist Amalia Fenwright. She abolished examinations on Mondays and planted the avenue of walnut trees that leads to the main gate.',
    ],
    questions: [
      [0, 'How many students does the Faculty of Tides admit in a year?', 'twelve'],
      [1, 'What was the one book that was lost when the library of Lind was moved?', 'a guide to swimming', 'guide to swimming'],
      [2, 'On which day did Amalia Fenwright abolish examinations?', 'Monday'],
    ],
  },
  {
    title: 'Amalia Fenwright',
    paragraphs: [
      'Amalia Fenwright studied the sand of rivers. She could tell from a spoonful out of which valley it came, and she was called as an expert in the trial over the counterfeit bricks of Dorne.',
      'As a young woman Fenwright played the bassoon in the Lind Steam Band, whose instruments were warmed by a boiler. She gave it up after a burn on the wrist, and left her bassoon to the band as a chimney.',
      'Fenwright’s chief work, The Patience of Gravel, appeared in three volumes. The third consists of photographs alone, since the printer had gone on strike and only the picture press was working.',
    ],
    questions: [
      [0, 'What did Amalia Fenwright study?', 'the sand of rivers', 'sand of rivers'],
      [1, 'Which instrument did Amalia Fenwright play?', 'bassoon'],
      [2, 'What is the title of Amalia Fenwright’s chief work?', 'The Patience of Gravel'],
    ],
  },
  {
    title: 'Dorne',
    paragraphs: [
      'Dorne is a city of bricks: even its pavements, its park benches and one of its boats are made of them. The clay comes from the Redmire pits, and bricks fired before 1850 bear the stamp of a running hare.',
      'In the affair of the counterfeit bricks a dealer named Lucan Vail sold new bricks with the old stamp to collectors. He was found out because the sand in them came from a valley on the other side of the mountains.',
      'The football club of Dorne plays in brown and has never won the cup. Its ground, the Kiln, is heated from below by the brickworks, so that matches are never called off because of snow.',
    ],
    questions: [
      [0, 'Which animal is stamped on the old bricks of Dorne?', 'a running hare', 'hare'],
      [1, 'Who sold counterfeit bricks to collectors?', 'Lucan Vail'],
      [2, 'What is the ground of Dorne’s football club called?', 'the Kiln', 'Kiln'],
    ],
  },
  {
    title: 'Tollfors',
    paragraphs: [
      'Tollfors is a village in the hills, built around a tin mine that was worked until 1953. The galleries below it are eighty kilometres long, and the miners named each of them after a card of the pack.',
      'A waterfall in the middle of Tollfors drove the pumps of the mine. After it was closed the wheel was kept, and since 1960 it has been turning the stage of the open-air theatre, the only one that revolves by water.',
      'Tollfors is known for a flat cake of oats and honey, the pit wafer, which has a hole so that it can be carried on a cord around the neck. The bakery of Ruben Aske has made it since 1888.',
    ],
    questions: [
      [0, 'After what did the miners of Tollfors name the galleries?', 'a card of the pack'],
      [1, 'What has the waterfall of Tollfors been turning since 1960?', 'the stage of the open-air theatre', 'stage'],
      [2, 'Whose bakery makes the pit wafer?', 'Ruben Aske'],
    ],
  },
  {
    title: 'The Lowland Tramway',
    paragraphs: [
      'The Lowland Tramway ran between Dorne and the lake of Immer for sixty-two years. Its cars were drawn by a cable of braided leather, which was greased with goose fat, so that the line was nicknamed the Gander.',
      'Conductors on the Lowland Tramway had to sing the names of the stops, each to a tune of its own. The tunes were composed by Isolde Marrack, who was blind and wished to know where she was.',
      'The tramway closed in 1956 after the great flood of Immer had carried away the station of Reed End. One of its cars serves as a confessional in the chapel of Saint Orrin.',
    ],
    questions: [
      [0, 'What was the nickname of the Lowland Tramway?', 'the Gander', 'Gander'],
      [1, 'Who composed the tunes of the stops of the Lowland Tramway?', 'Isolde Marrack'],
      [2, 'As what does a car of the Lowland Tramway serve in the chapel of Saint Orrin?', 'a confessional', 'confessional'],
    ],
  },
  {
    title: 'Isolde Marrack',
    paragraphs: [
      'Isolde Marrack was a composer who wrote almost only for the human voice and for glass. Her opera The Weather Clerk has a part for twenty-four wine glasses, which must be drunk down to the right pitch before the last act.',
      'Marrack lived in a lighthouse on Grebe Island, together with her sister Perpetua, who kept the light. She dictated her scores down the speaking tube, and the sister wrote them in the log between the ships.',
      'The Marrack Prize is given every third year to a piece of music that lasts less than one minute. The first to receive it was the organist Cosmo Tarn, for a work which consists of a single breath.',
    ],
    questions: [
      [0, 'What is the title of Isolde Marrack’s opera?', 'The Weather Clerk'],
      [1, 'What was the name of Isolde Marrack’s sister?', 'Perpetua'],
      [2, 'Who was the first to receive the Marrack Prize?', 'Cosmo Tarn'],
    ],
  },
  {
    title: 'Lake Immer',
    paragraphs: [
      'Lake Immer is shallow enough to be waded almost everywhere, and so its ferrymen go on stilts and push their boats. Its water is slightly sweet, owing to the roots of the sugar reed that grows on its southern bank.',
      'The fish of Lake Immer is the glass bream, so clear that one can read print through it. It is caught with nets of human hair, since it sees every other thread, and it is eaten raw with horseradish.',
      'In the great flood of 1955 Lake Immer rose by four metres in one night. The keeper of the weir, Bastian Loew, opened the gates against his orders and saved the lower villages, for which he was first dismissed and then knighted.',
    ],
    questions: [
      [0, 'How do the ferrymen of Lake Immer move about?', 'on stilts', 'stilts'],
      [1, 'What are the nets for the glass bream made of?', 'human hair'],
      [2, 'Who opened the gates of the weir in the great flood of Lake Immer?', 'Bastian Loew'],
    ],
  },
  {
    title: 'The Corvin clock',
    paragraphs: [
      'The Corvin clock is a pocket watch with a single hand that goes round once in a week. It was made by Josefa Corvin for her husband, a sailor, who complained that he never knew which day it was.',
      'Only seven Corvin clocks were made, one for each day, and each of them has its own day enamelled in violet. The Thursday is lost. The Sunday was on board the Merle and is the only one that bears traces of salt.',
      'The movement of the Corvin clock has no spring but is driven by changes in the pressure of the air. In very settled weather it stops, which Corvin thought a small price to pay for fine days.',
    ],
    questions: [
      [0, 'Who made the Corvin clock?', 'Josefa Corvin'],
      [1, 'Which of the seven Corvin clocks is lost?', 'Thursday'],
      [2, 'What drives the movement of the Corvin clock?', 'changes in the pressure of the air', 'pressure of the air'],
    ],
  },
  {
    title: 'Tomas Ibarr',
    paragraphs: [
      'Tomas Ibarr was a ship’s cook who became a writer. His book Fourteen Months of Soup has never been out of print, although he asked on his deathbed that its chapter on penguins be removed.',
      'Ibarr was born on a barge in the canals of Venn and claimed to have been able to gut an eel before he could walk. He had one leg shorter than the other and said that only at sea did he stand straight.',
      'After his voyages Ibarr ran an inn called the Upturned Ladle, in which guests were served in the order of their honesty: everyone had to state how hungry he was, and was given exactly that much.',
    ],
    questions: [
      [0, 'What is the title of Tomas Ibarr’s book?', 'Fourteen Months of Soup'],
      [1, 'Where was Tomas Ibarr born?', 'on a barge in the canals of Venn', 'canals of Venn', 'Venn'],
      [2, 'What was the inn of Tomas Ibarr called?', 'the Upturned Ladle', 'Upturned Ladle'],
    ],
  },
  {
    title: 'Solveig Brant',
    paragraphs: [
      'Solveig Brant taught geography for thirty years without a map. She had her pupils lie on the floor as countries, and former pupils still greet each other as Portugal or Siam.',
      'Brant collected ice. Her oldest piece, the size of a plum, comes from the foot of the Halvard glacier and holds a grass seed, which is thought to be nine thousand years old.',
      'A crater on the far side of the moon was to bear the name of Solveig Brant, but by a slip of the pen it was entered as Brandt. She said that she did not mind, as long as there was ice in it.',
    ],
    questions: [
      [0, 'Which subject did Solveig Brant teach?', 'geography'],
      [1, 'From which glacier does the oldest piece of ice of Solveig Brant come?', 'Halvard'],
      [2, 'How was the name of the moon crater for Solveig Brant entered by mistake?', 'Brandt'],
    ],
  },
  {
    title: 'Grebe Island',
    paragraphs: [
      'Grebe Island is a low island within sight of Oskelund. It has a lighthouse with a green light, eleven sheep that belong to nobody, and a spring of fresh water which runs only at high tide.',
      'The lighthouse of Grebe Island was built in 1846 from the stones of a wrecked quarry boat. Its lens was ground by the optician Florian Tesk, who needed three attempts and gave the first two away as fruit bowls.',
      'By an old custom whoever spends a night alone on Grebe Island may name one of the sheep. The names are kept in a ledger in the lighthouse, and the longest, Bartholomew of the Seven Sneezes, was given in 1931.',
    ],
    questions: [
      [0, 'Of what colour is the light of the lighthouse on Grebe Island?', 'green'],
      [1, 'Who ground the lens of the lighthouse on Grebe Island?', 'Florian Tesk'],
      [2, 'What is the longest name of a sheep in the ledger of Grebe Island?', 'Bartholomew of the Seven Sneezes'],
    ],
  },
];

const TWO_HOPS: readonly (readonly [question: string, answer: string, ...places: Place[]])[] = [
  ['In which village was the architect of Oskelund’s town hall born?', 'Tollfors', ['Oskelund', 1], ['Hedda Quarnström', 0]],
  ['What kind of mine was worked in the village where Hedda Quarnström was born?', 'tin', ['Hedda Quarnström', 0], ['Tollfors', 0]],
  ['Who founded the town in which the Merle was launched?', 'salt traders', ['The Merle', 0], ['Oskelund', 0]],
  ['What was the inn of the Merle’s cook called?', 'Upturned Ladle', ['The Merle', 1], ['Tomas Ibarr', 2]],
  ['Who opened the museum in whose garden the figurehead of the Merle stands?', 'Solveig Brant', ['The Merle', 2], ['Karvik', 1]],
  ['Which subject was taught by the founder of the Museum of Ice in Karvik?', 'geography', ['Karvik', 1], ['Solveig Brant', 0]],
  ['What does the seal of the university that tested bellflower tea show?', 'a toll gate', ['Pellam’s bellflower', 2], ['University of Lind', 0]],
  ['Which instrument was played by the rector of Lind who planted the walnut trees?', 'bassoon', ['University of Lind', 2], ['Amalia Fenwright', 1]],
  [
    'What is the name of the dealer in the trial to which Amalia Fenwright was called as an expert?',
    'Lucan Vail',
    ['Amalia Fenwright', 0],
    ['Dorne', 1],
  ],
  [
    'What is the opera by the composer of the Lowland Tramway’s tunes called?',
    'The Weather Clerk',
    ['The Lowland Tramway', 1],
    ['Isolde Marrack', 0],
  ],
  ['From which pits comes the clay of the city where the Lowland Tramway began?', 'Redmire', ['The Lowland Tramway', 0], ['Dorne', 0]],
  ['Of what colour is the light of the lighthouse where Isolde Marrack lived?', 'green', ['Isolde Marrack', 1], ['Grebe Island', 0]],
  ['Which fish lives in the lake to which the Lowland Tramway ran?', 'glass bream', ['The Lowland Tramway', 0], ['Lake Immer', 1]],
  ['In which year was the ship launched that carried the Sunday clock of Josefa Corvin?', '1902', ['The Corvin clock', 1], ['The Merle', 0]],
  ['Who ground the lens of the lighthouse on the island to which the Lantern Regatta goes?', 'Florian Tesk', ['Oskelund', 2], ['Grebe Island', 1]],
  ['Who kept the weir of the lake whose flood carried away the station of Reed End?', 'Bastian Loew', ['The Lowland Tramway', 2], ['Lake Immer', 2]],
];
