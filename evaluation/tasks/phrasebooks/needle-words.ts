/** The words that models/needle was trained on: the lists of models/recipe/words.py, by their names there. */
export const FEMALE = words(`
  Anna Clara Dora Edith Freya Greta Hanna Ida Julia Karen Lena Mary Nora Olga Paula Rosa Sara Tessa Uma Vera Wanda Yara Zoe Alice Bella Emma Fiona
  Gina Helen Irene`);
export const MALE = words(`
  Adam Boris Carl David Erik Felix George Hugo Ivan Jonas Kevin Leo Martin Nils Oscar Peter Quinn Robert Simon Tom Umar Victor Walter Xavier Yusuf
  Zack Albert Bruno Daniel Frank`);
export const PLACES = words(`
  Oslo Paris Lima Cairo Berlin Madrid Rome Tokyo Delhi Quito Vienna Prague Lisbon Dublin Geneva Boston Denver Austin Havana Athens Bergen Bremen
  Milan Turin Porto Sofia Warsaw Riga Tallinn Minsk Kyoto Osaka Manila Hanoi Lagos Accra Nairobi Tunis Perth Sydney Dallas Chicago Toronto Ottawa
  Bogota Santiago Cusco Malta Cyprus Samos Dover York Leeds Bath Bristol Oxford Leipzig Dresden Basel Zurich`);
export const ANIMALS = words(`
  otter fox wolf bear horse mouse rabbit eagle owl crow swan goose duck frog snake turtle lizard tiger lion zebra camel goat sheep cow donkey
  badger beaver squirrel hedgehog dolphin whale shark salmon crab spider beetle moth bee panda falcon`);
export const OBJECTS = words(`
  lamp bell table chair mirror clock basket bottle candle carpet drum flute violin piano hammer ladder bucket shovel rope needle button ribbon
  jacket coat scarf glove boot hat ring crown sword shield arrow lantern compass map letter book pencil brush paint stamp coin purse wallet key
  lock door window curtain pillow blanket bed desk shelf drawer box chest trunk barrel kettle spoon fork knife plate bowl cup glass jar tray oven
  stove broom mop sponge towel soap comb razor scissors thread wheel engine pump valve pipe wire cable bolt screw nail brick tile stone marble
  statue vase puzzle kite ball doll wagon cart sled boat canoe anchor sail tent`);
export const NATURE = words(`
  river lake forest meadow hill mountain valley desert island beach cliff cave garden field orchard swamp glacier canyon harbor village castle
  tower bridge temple market station library museum school church mill farm barn stable fountain square street road path tunnel gate wall roof
  cellar attic`);
export const ROOMS = words(`
  kitchen bedroom hallway office pantry workshop garage bathroom basement study nursery lounge balcony studio closet chapel`);
export const FOODS = words(`
  bread cheese soup rice pasta honey butter apples plums cherries grapes lemons carrots onions beans peas mushrooms potatoes pancakes cookies cake
  pie yogurt salad noodles olives almonds walnuts berries pears melons dates`);
export const JOBS = words(`
  doctor teacher baker farmer painter sailor pilot lawyer nurse miner tailor weaver carpenter plumber singer dancer writer judge guard cook driver
  gardener fisher hunter clerk banker dentist chemist engineer soldier actor builder`);
export const COLORS = words(`red blue green yellow purple orange black white brown gray pink silver golden violet crimson`);
export const ADJ = words(`
  brave quiet mellow gentle bright dark heavy light small large tall short old young new broken hidden empty full round flat sharp smooth rough
  soft hard warm cold cool dry wet clean dirty happy sad proud humble clever lazy busy calm wild tame rich poor strong weak swift slow early late
  rare common strange simple fancy plain noisy silent hollow frozen rusty dusty shiny wooden ancient modern lonely friendly curious careful
  nervous tired hungry thirsty sleepy angry jolly gloomy loyal honest noble royal secret sacred famous foreign local distant narrow wide deep
  shallow crooked`);
export const ADV = words(`
  slowly quickly quietly loudly gently often rarely always never soon later again once twice yesterday today early together alone carefully
  happily sadly calmly`);
export const VERB_T = words(`
  found lost carried dropped painted cleaned moved repaired watched followed admired bought sold borrowed hid opened closed washed lifted pushed
  pulled touched kept broke built drew noticed ignored remembered forgot praised`);
export const VERB_I = words(`
  slept waited walked sang danced rested worked played laughed cried smiled whispered shouted stood sat ran swam travelled arrived left returned
  listened`);
export const DRINKS = words(`tea coffee milk juice water cider lemonade cocoa`);
export const HOBBIES = words(`
  chess tennis fishing cooking reading swimming skating hiking knitting sailing boxing cycling drawing singing gardening climbing`);
export const WEATHER = words(`sunny rainy windy cloudy foggy stormy snowy warm cold dry`);
export const DAYS = words(`Monday Tuesday Wednesday Thursday Friday Saturday Sunday`);
export const MONTHS = words(`January February March April May June July August September October November December`);
export const NAMES = [...FEMALE, ...MALE];
export const NOUNS = [...ANIMALS, ...OBJECTS, ...NATURE];
export const ALLWORDS = [...new Set([...NOUNS, ...ADJ, ...FOODS, ...JOBS, ...VERB_T, ...VERB_I, ...ADV, ...COLORS, ...HOBBIES])].sort();
export const SYLLABLES = [...'bdfgklmnprstvz'].flatMap((consonant) => [...'aeiou'].map((vowel) => consonant + vowel));

function words(text: string): string[] {
  return text.trim().split(/\s+/);
}
