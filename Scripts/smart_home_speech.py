"""How the smart-home sampler speaks: likely wordings of shared phrases, and samples that no one would say."""
import re

import smart_home_values as values

# How people say the phrases that the templates share: a part of what each rule of the package allows, in hassil's own
# notation. A repeated alternative is a likelier one. The recogniser keeps the package's rules.
SPOKEN_RULES = {
    "the": "(the|the|the|my)",
    "all": "(all|all the|all of the)",
    "everywhere": "(everywhere|all over the house|in the whole house|throughout the house|in the entire apartment)",
    "here": "(here|in here|in this room)",
    "home": "(house|house|apartment)",
    "in": "(in|in|on)",
    "is": "is",
    "what_is": "(what's|what is|tell me)",
    "how_is": "(how is|how's)",
    "where_is": "(where is|where's)",
    "which": "(which|which of the|what)",
    "are": "are",
    "any": "(any|any of the|some of the)",
    "are_any": "(are any|are there any|are any of the|are some of the)",
    "are_all": "(are all|are all the|are all of the)",
    "how_many": "(how many|how many of the)",
    "lockable": "(doors|doors|windows|locks|gates|garage doors|shutters)",
    "light": "(lights|lights|lights|lamps)",
    "temp": "temperature",
    "track": "(song|track)",
    "media": "(music|movie|tv show|song)",
    "open": "(open|open|open up|raise)",
    "close": "(close|close|shut|lower)",
    "set": "(set|set|change)",
    "turn": "(turn|turn|switch)",
    "numeric_value_set": "(set|set|set|change|increase|decrease)",
}

# Words that a template makes optional but that speech rarely drops.
PREPOSITIONS = {"in", "on", "of", "for", "by", "to", "<in>"}
DETERMINERS = {"the", "my", "a", "an", "<the>", "<all>"}
VERBS = {"list", "<turn>", "<set>", "<numeric_value_set>", "activate", "run", "start", "turn", "the"}

OWN_NAMES = ["dusty", "mister sweep", "grass eater"]
PROPER_NAMES = "|".join(values.NAMES["weather"] + values.NAMES["person"] + ["christmas", "home", "work"] + OWN_NAMES)
ROOMS = "|".join(values.AREAS)
PLAYERS = "|".join(values.NAMES["media_player"])
# Things that need an article.
APPLIANCES = "|".join(
    name for domain in ("vacuum", "media_player", "button", "lock", "lawn_mower")
    for name in values.NAMES[domain] if name not in OWN_NAMES)
COVERS = "awning|blind|curtain|door|garage door|gate|shade|shutter|window"

# What a template allows but nobody says.
UNNATURAL = [re.compile(pattern) for pattern in [
    r"\b(\w+) \1\b",
    r" [%°]|\b(the|my|our) (the|my|our|all|it|here|everywhere)\b",
    rf"\b(the|my|our) ({PROPER_NAMES})\b(?! (list|timer|button))",
    r"\b(in|on) ((the|my) )?(upstairs|downstairs)\b(?! \w)|\bmy (upstairs|downstairs)$",
    r"\bin ((the|my) )?\w+ floor\b|\bon ((the|my) )?(basement|attic)\b",
    r"\b(floor|upstairs|downstairs|basement|attic) floor\b",
    rf"\b(on|at|of) ((the|my) )?({ROOMS})$|\bon ((the|my) )?({ROOMS}) (to|up|down|off|on|by|out)\b",
    rf"\b(in|on|at|of|for|clean|vacuum|illuminate|is) ({ROOMS}|\w+ floor|basement|attic)"
    r"(?! (light|lamp|fan|door|window|blind|curtain|shade|shutter|gate|awning))\b",
    rf"\b(stop|dock|return|start|mute|unmute|press|push|on|lock|unlock) ({APPLIANCES})\b",
    r"\ban (?!8|11\b|18|eight|eleven|hour)|\ba (8|11|18|eight|eleven|hour)\b",
    r"\dkelvin|\d brightness|\breplay the (last|previous)$",
    r"\b(increase|decrease) .*\btemperature\b.*(light|white|\d{4})",
    rf"^(the |my )?({PLAYERS}) (play|replay)\b",
    r"\b(light|lamp)s (\w+ floor|basement|attic)$|\boff from\b|^time is left\b|\bdegree\b|\bshows\b",
    rf"\bturn (the )?(volume )?(increase|decrease)\b|\bvolume (increase|decrease)\b|\b({ROOMS}) (the|my) ",
    r"-(hour|minute|second) .* (hour|minute|second) timer|\w (hour|minute|second) .*-(hour|minute|second) timer",
    r"\b(robomow|automower|mowbot|grass eater) mower\b|\bpersons\b|^(up|down) ",
    r"^(change|increase|decrease) .*\b(awning|blind|curtain|door|gate|shade|shutter|window|screen)s? .*to \d",
    r"^(open|close|shut|raise|lower)( up)? .*\bposition\b",
    r"^(check|complete|delete|remove) .* (in|on) (the |my )?([\w ]+ )?list$",
    r"^check (?!off).* from |^(complete|delete|remove) off\b",
    rf"^(the |my )?({ROOMS}) (skip|replay|go back|play|mute|volume)\b",
    r"\b(which of|what of) (?!the)|\b(switch|change) out\b|\bmake sure all (lights|lamps) is\b",
    r"\bevery (lights|lamps)\b",
    r"\b(what's|what is|tell me|how is|how's|stop|pause|resume|unpause|mute|unmute) "
    r"(current|weather|music|movie|tv show|song|lawn|mower|date)\b",
    r"\btell me .*\blike\b",
    r"\bincrease .*\b(min|minimum|lowest)\b|\bdecrease .*\b(max|maximum|highest)\b",
    r"\b(increase|decrease) .*\b(white|light|kelvin|position)\b|\d ?k$",
    r"\bfan fans?\b|\bfan mode (on|in) (on|off)\b|\bdoorbell button\b|\b(mode|routine) script\b|\bmower mower\b",
    r"\band half\b|\b1/2\b|\b(1|one) and a half\b",
    r"\bitem\b|\bmedia\b|\btv shows\b|\bshows?$",
    r"\b(raise|lower) (the |my )?((\w+ )?\w+ )?(doors?|gates?|curtains?|valve|line|locker)\b",
    r"\bshut (the |my )?(\w+ )?(awning|screen)\b",
    rf"\b(open|close|shut|raise|lower|set|change|increase|decrease) ({COVERS})\b",
]]

POLITE_BEFORE = ["please", "could you", "can you", "would you"]
POLITE_AFTER = ["please", "for me"]
# First words after which "could you" or "please" can stand.
IMPERATIVES = set(
    "turn switch set open close shut lock unlock start stop pause resume continue play skip add put remove delete "
    "cancel increase decrease change activate deactivate vacuum clean return dock announce broadcast mute unmute "
    "create raise lower unpause replay dim take press push run complete check".split()
)
