/** Words of the keys and lists. */
export const adjectives = words(`
  able acid agile airy alert amber ample apt aqua arch arid ashen bald bare basic beige bent bitter blank bleak blind blond blunt bold bossy brainy brave brazen
  brief brisk brittle broad bulky bumpy burly calm candid casual chalky cheery chilly chubby civil classic clumsy coarse comic compact coral cosy crafty cranky
  creamy crisp crude cubic curly curved dainty damp dapper daring dense devout dim direct dizzy docile dormant drab dreamy dry dull eager earthy easy elastic
  elder elegant empty equal even exact faint fair fancy fearless feeble fertile festive fickle fierce fiery final firm fit flashy fluffy fluid foggy fond formal
  frail frank fresh frosty frugal full funny fuzzy gaudy gaunt gifted glad gleaming global glossy golden grand grateful gritty groggy grubby gruff hardy harsh
  hasty hazy hearty hefty helpful hilly hoarse homely honest humid hushed icy ideal idle inner iron ivory jaunty jolly jovial joyful keen kind lanky lavish lazy
  lean legal level light limber limp lively loose loud loyal lucid lucky lunar lush lusty major marine meek mellow merry mighty mild minor misty mobile modest
  moist mossy muddy murky musty mute naive narrow neat nervous nimble noble noisy normal novel oaken oblong odd oily olive opaque open oval pale patient peppy
  perky placid plain plump polar polite portly posh prickly prim proper proud prudent pure quaint queasy quick quiet quirky ragged rapid rare raw ready regal
  remote rigid ripe robust rosy rough round royal ruddy rugged rural rustic rusty sable salty sandy savvy scarlet scenic secure sedate serene severe shaggy
  sharp sheer shiny shrewd shy silent silken silver simple skilled sleek slender slim sly smart smoky smooth snappy snowy snug sober soft solar solemn solid
  sour spare speedy spicy spotted stable stale stark steady steep stern sticky stiff stout strict strong sturdy subtle sudden sullen sunny supple svelte sweet
  swift tall tame tart tasty tender tense tepid thick thin thorny thrifty tidy tiny tired tough trim tropical true trusty unique upbeat urban urgent usual vague
  valid vast velvet vexed vital vivid vocal warm wary wavy weary weird whole wicked wide wild wilful windy wise wispy witty wooden woolly worthy young zany zesty`);

export const nouns = words(`
  abbey acorn actor almond anchor angle ankle anvil apple apron arch arena armour arrow atlas attic autumn avenue axle badge bagel baker ballad bamboo banjo bank
  banner barge barley barn barrel basin basket beach beacon bead beard beaver beetle bell belt bench berry bicycle birch biscuit blanket blossom board boat bolt
  bonnet border bottle boulder bower bracelet branch brass bread breeze brick bridge briefcase broom brush bucket buckle budget bugle bunker burrow butter button
  cabbage cabin cabinet cable cactus camera camp canal candle cannon canoe canopy canvas canyon cape caravan carbon cargo carpet carrot carton castle cattle cave
  cedar cellar cement chain chalk chamber channel chapel cherry chest chimney chisel cider cinema circle circus clarinet cliff cloak clock cloth cloud clover coach
  coast cobalt cobbler cocoa coffee collar column comet compass copper corner cottage cotton couch counter cousin cradle crane crater crayon creek crown crystal
  cupboard curtain cushion cymbal dagger dairy daisy dancer dawn debris desert desk dessert diamond diary dinner dock doctor dolphin donkey door dragon drawer dress
  drift drum duchess dune dust eagle easel echo eclipse editor elbow elephant elevator ember emerald engine envelope estate evening fabric factory falcon farm
  feather fence fern ferry festival fiddle field finch flag flame flask fleet flour flute forest forge fossil fountain fox freckle frigate fringe frog fudge funnel
  furnace gable galaxy gallery galley garage garden garlic garnet gate gazelle geyser ginger giraffe glacier glade globe glove goblet goose granite grape grass
  gravel grocer grotto guitar gull gutter hamlet hammer hammock harbour harness harp harvest hatch hawk hazel hearth hedge helmet herald heron hill hinge hockey
  hollow honey hornet hotel iceberg igloo incense ink inlet insect iris island ivy jacket jade jaguar jar jasmine jelly jersey jewel jigsaw jockey journal jug
  juniper kennel kernel kettle keyboard kingdom kiosk kitchen kite knapsack knight knot laboratory ladder ladle lagoon lamp lantern larch lark lasso lattice laundry
  lava lavender lawn leaf leather ledger lemon lens leopard lettuce lever library lilac lily limestone linen lizard lobster locket locust lodge lumber lupin lute
  lynx machine magnet magpie mallet mammoth mandolin mango mantle maple marble market marsh mason mast meadow medal melody melon memory mermaid meteor mill mineral
  mint mirror mitten moat monk moose mortar mosaic moss moth motor mountain muffin mulberry muscle museum mustard mutton napkin navy necklace needle nest nettle
  nickel notebook nugget nurse nutmeg oasis oatmeal oboe ocean octopus office onion opera orange orbit orchard organ otter oven owl oyster paddle padlock palace
  palette panda panther paper parade parcel parrot parsley passage pasture path pavement peach peacock pearl pebble pelican pencil pendulum pepper perch perfume
  petal pewter piano pickle picnic pigeon pillar pillow pilot pine pistol pitcher plank planet plateau platform plaza plough plum pocket poem poet pollen pond pony
  poplar poppy porcelain porridge portrait potato pottery powder prairie prism pudding puddle pulley pumpkin puppet purse puzzle pyramid quarry quartz quill quilt
  rabbit radish raft railway rain raisin ranch raven ravine razor reef ribbon rice ridge rifle ring river road robin rocket roof rooster rope rose rudder ruin saddle
  saffron sail salad salmon sandal satchel satin saucer scarf sceptre scholar school scissors sculptor seal shadow shawl shed shelf shell shepherd shield ship
  shirt shovel shower shrub shutter sickle signal siren skeleton skirt sleigh slipper smith snail snake soap sofa soldier sonnet spade sparrow spear spider spindle
  spinach spire sponge spoon spring spruce squirrel stadium staircase stamp star statue stool stork storm stove straw stream street sulphur summer summit sundial
  surgeon swallow swamp swan sword syrup table tailor tambourine tavern teapot telescope temple tent terrace theatre thicket thimble thistle throne thumb thunder
  tiger timber tinsel toast tobacco tomato torch tortoise tower tractor trail train tray treasure trellis trophy trumpet trunk tulip tunnel turbine turnip turtle
  tweed twig umbrella valley vanilla vault veil velvet veranda vessel village vine vineyard violet violin volcano waffle wagon waistcoat wallet walnut walrus
  warbler wardrobe water wharf wheat wheel whistle widow willow window winter wizard wolf wren wrist yacht yard yoghurt zebra zenith`);

export const verbs = words(`
  accept achieve adapt admire adopt advise agree amuse announce apply argue arrange arrive assemble assist attach attend avoid bathe behave believe belong blame
  boast boil borrow bounce bow breathe bury carve celebrate chase chatter cheer chew choose chop clap climb collect combine comfort compare complain compose confess
  connect consider convince cook correct cough count crawl cross dance decide decorate defend deliver depend describe deserve detect develop differ disagree
  discover dive divide double drag educate embrace employ enclose encourage enter escape examine excuse exist expand explain explore fasten fetch fill float
  flow follow forgive gather greet guess hammer hesitate hope hover hurry ignore imagine improve include increase inform inspect intend invent invite join juggle
  jump kneel knit label laugh launch lean learn lend listen manage marry measure melt mend mumble multiply nod notice obey observe obtain occur offer owe paint
  permit persuade pour practise pray preach predict prefer pretend prevent produce promise protect provide pull punish race recall receive recite recognise refuse
  regret rejoice relax release rely remain remember remind repair repeat replace reply rescue rinse roast scatter scold scrape scratch scribble search separate
  serve settle shiver shrug sigh sketch sneeze spare sprinkle squeeze stare strengthen stretch stroll suggest supply support surprise surround suspect swim tempt
  thank tickle tow trace translate travel tremble trust untie vanish visit wander warn weave weigh whisper wipe wonder wrap yawn`);

/** Each once. */
function words(text: string): string[] {
  return [...new Set(text.trim().split(/\s+/))];
}
