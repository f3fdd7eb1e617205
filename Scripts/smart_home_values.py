"""What the slots of the smart-home templates are filled with: one imagined household, its people and their errands."""

AREAS = [
    "kitchen", "living room", "bedroom", "master bedroom", "guest room", "bathroom", "office", "garage", "hallway",
    "dining room", "nursery", "laundry room", "playroom", "study", "pantry", "patio", "garden", "balcony", "workshop",
    "sunroom", "entryway", "den", "gym", "closet", "library", "porch", "back yard", "wine cellar",
]

FLOORS = ["ground floor", "first floor", "second floor", "third floor", "top floor", "upstairs", "downstairs",
          "basement", "attic"]

# Names of devices and other entities by Home Assistant domain.
NAMES = {
    "light": ["bedside lamp", "desk lamp", "floor lamp", "ceiling light", "reading lamp", "night light", "chandelier",
              "string lights", "spotlight", "vanity light", "lava lamp", "corner lamp", "accent light", "strip light"],
    "switch": ["coffee maker", "space heater", "garden pump", "kettle", "dehumidifier", "heated blanket", "aquarium",
               "air purifier", "christmas tree", "towel warmer", "fountain", "slow cooker"],
    "fan": ["ceiling fan", "tower fan", "exhaust fan", "desk fan", "box fan", "attic fan", "window fan"],
    "cover": ["roller blind", "skylight", "patio awning", "left curtain", "right curtain", "driveway gate",
              "bay window shade", "venetian blind", "projector screen", "big shutter"],
    "lock": ["front door", "back door", "side door", "cellar door", "shed", "garden gate", "gun safe", "bike locker"],
    "valve": ["water valve", "sprinkler valve", "gas valve", "main valve", "drip line", "irrigation valve"],
    "media_player": ["tv", "soundbar", "stereo", "radio", "record player", "projector", "home theater", "sonos",
                     "smart speaker", "apple tv", "bluetooth speaker", "big screen"],
    "climate": ["thermostat", "heat pump", "air conditioner", "radiator", "underfloor heating", "boiler"],
    "vacuum": ["roomba", "robot vacuum", "dusty", "mister sweep", "hoover"],
    "lawn_mower": ["robomow", "automower", "grass eater", "front lawn mower", "mowbot"],
    "weather": ["london", "new york", "paris", "chicago", "tokyo", "seattle", "berlin", "denver", "sydney", "lisbon"],
    "todo": ["grocery", "chores", "packing", "hardware store", "errands", "work", "birthday", "camping", "weekend",
             "christmas"],
    "person": ["anna", "ben", "carlos", "grandma", "dad", "mom", "priya", "tom", "yuki", "zoe"],
    "sensor": ["outdoor temperature", "air quality", "water meter", "rain gauge", "power meter", "fridge temperature",
               "soil moisture", "carbon dioxide level", "solar production", "pool temperature"],
    "binary_sensor": ["mailbox", "freezer door", "pet flap", "cabinet", "parking space", "guest bed", "sofa",
                      "driveway", "stairs"],
    "scene": ["movie night", "dinner party", "good morning", "bedtime", "romantic", "relax", "focus time", "game night",
              "reading time", "sunset"],
    "script": ["leave home", "vacation mode", "morning routine", "party mode", "feed the cat", "panic mode",
               "water the plants", "lock up"],
    "button": ["doorbell", "reboot", "garage opener", "cat feeder", "identify", "emergency"],
}

# Lights that are named after what they light: "the bookshelf lights".
LIT_THINGS = ["bookshelf", "fireplace", "mirror", "counter", "staircase", "aquarium shelf", "painting", "workbench"]
NAMES["light"] += LIT_THINGS

# Sensors that are open or closed; the rest of `binary_sensor` is occupied or empty.
OPENING_SENSORS = {"mailbox", "freezer door", "pet flap", "cabinet"}

SHOPPING = ["milk", "eggs", "bread", "bananas", "olive oil", "toilet paper", "cat food", "coffee beans", "rice",
            "cheddar cheese", "orange juice", "paper towels", "tomatoes", "chicken breast", "dish soap", "butter",
            "green tea", "batteries", "oat milk", "frozen peas", "apples", "peanut butter", "salmon", "shampoo",
            "birthday candles", "yogurt", "spinach", "pasta", "garlic", "dark chocolate"]

# Items by the to-do list they could be on.
TODO = {
    "grocery": ["milk", "eggs", "bananas", "rice", "coffee beans", "olive oil", "tomatoes", "oat milk"],
    "chores": ["clean the gutters", "mow the grass", "vacuum the car", "change the filter", "wash the windows",
               "take out the trash", "fold the laundry"],
    "packing": ["sunscreen", "passport", "toothbrush", "rain jacket", "phone charger", "hiking boots", "swimsuit"],
    "hardware store": ["wood screws", "paint rollers", "duct tape", "drill bits", "sandpaper", "light bulbs"],
    "errands": ["buy stamps", "return the library books", "pick up the dry cleaning", "fix the bike",
                "drop off the package", "get a haircut"],
    "work": ["finish the report", "call the client", "book a flight", "review the budget", "send the invoice"],
    "birthday": ["balloons", "candles", "wrapping paper", "chocolate cake", "party hats", "gift cards"],
    "camping": ["sleeping bag", "flashlight", "tent", "bug spray", "matches", "water bottle"],
    "weekend": ["walk the dog", "call grandma", "visit the museum", "bake bread", "plant the roses"],
    "christmas": ["ornaments", "candy canes", "turkey", "greeting cards", "a sweater for dad"],
}

TIMER_NAMES = ["pizza", "pasta", "laundry", "eggs", "tea", "oven", "nap", "workout", "homework", "cookies", "rice",
               "meditation", "chicken", "dishwasher", "bread", "study break", "parking", "roast"]

COMMANDS = ["turn off the lights", "open the garage door", "close the blinds", "turn on the fan", "lock the front door",
            "start the roomba", "play some jazz", "turn up the heat", "pause the music", "turn off the tv",
            "close the curtains", "stop the sprinklers", "dim the lights", "unlock the back door", "start the dryer",
            "turn off the oven", "mute the tv"]

MESSAGES = ["dinner is ready", "we are leaving in ten minutes", "the movie starts soon", "time to go to bed",
            "breakfast is on the table", "the school bus is here", "someone is at the door", "it is time for homework",
            "the pizza has arrived", "please come downstairs", "the laundry is done", "grandma is here",
            "the dog needs a walk", "lunch is served", "the power will go out at noon", "i am home",
            "who left the fridge open", "the cake is finished", "game night starts at eight", "put your shoes on",
            "the guests are coming", "turn the music down", "the baby is asleep", "dessert is ready",
            "we need to leave now", "the car is running", "wash your hands", "the package came", "clean your rooms",
            "the pool is open", "it is snowing outside", "the meeting is over"]

ZONES = ["home", "office", "school", "gym", "work", "library", "airport", "cabin", "supermarket", "church"]

MEDIA = {
    "artist": ["taylor swift", "queen", "miles davis", "adele", "the beatles", "radiohead", "beyonce", "johnny cash",
               "nina simone", "daft punk"],
    "album": ["abbey road", "thriller", "kind of blue", "rumours", "back to black", "nevermind", "graceland", "blue"],
    "track": ["bohemian rhapsody", "hotel california", "billie jean", "yesterday", "imagine", "africa",
              "dancing queen", "wonderwall", "superstition"],
    "playlist": ["road trip", "dinner jazz", "morning mix", "workout hits", "sleepy piano", "summer party",
                 "rainy day", "eighties classics"],
    "podcast": ["serial", "hardcore history", "radiolab", "the daily", "planet money", "science weekly"],
    "movie": ["the matrix", "finding nemo", "casablanca", "toy story", "jurassic park", "spirited away"],
    "tv_show": ["the office", "friends", "planet earth", "breaking bad", "sesame street", "doctor who"],
}

# Plausible values of the number ranges that the templates declare: (lowest, highest, step).
NUMBERS = {
    "temperature": (15, 28, 1),
    "color_temperature": (2000, 6500, 100),
    "timer_seconds": (5, 59, 1),
    "timer_minutes": (1, 59, 1),
    "timer_hours": (1, 12, 1),
    "volume_step_up": (5, 40, 5),
    "volume_step_down": (5, 40, 5),
    "brightness": (5, 100, 5),
    "position": (5, 100, 5),
    "fan_speed": (10, 100, 5),
    "volume": (5, 100, 5),
}
