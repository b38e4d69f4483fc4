"""The imaginary shop: everything its assistant knows, as values for the slots of the intents.

A kind of slot is a list of values, each a dictionary. `KEYS` says which entries of a kind identify a value; the others follow
from them, so an answer is a function of the keys. What stands under "user" replaces an entry in the customer's words, by one
of several names.
"""

NAME = "Pinewick"
SYSTEM = f"You are the assistant of {NAME}, an online shop."

KEYS = {
    "none": (),
    "product": ("p",),
    "colour": ("p", "colour"),
    "wearable": ("p",),
    "outdoor": ("p",),
    "drinkware": ("p",),
    "sold_out": ("p",),
    "container": ("p",),
    "size": ("p", "size"),
    "unsold": ("thing",),
    "need": ("p", "need"),
    "country": ("country",),
    "served": ("country",),
    "city": ("city",),
    "day": ("day",),
    "payment": ("way",),
    "order": ("number",),
    "given": ("number",),
    "amount": ("amount",),
    "offtopic": ("wish",),
}

# name: other names; price; colours (* is sold out); sizes; material; care; water; origin; warranty
PRODUCTS = {
    "backpack": (
        "rucksack,backpack,backpack", 59, "green,black,blue*",
        "The backpack comes in one size and holds 20 litres.", "recycled polyester",
        "Please clean the backpack with a damp cloth, not in the washing machine.",
        "Yes, the backpack is waterproof.", "Poland", "five",
    ),
    "rain jacket": (
        "rain jacket,jacket,raincoat", 89, "yellow,blue,black",
        "The rain jacket comes in sizes S to XL.", "recycled nylon",
        "You can wash the rain jacket in the machine at 30 degrees.",
        "Yes, the rain jacket is waterproof.", "Portugal", "two",
    ),
    "sweater": (
        "sweater,sweater,jumper,wool sweater", 69, "grey,green,red*",
        "The sweater comes in sizes S to XL.", "merino wool",
        "Please wash the sweater by hand in cold water.",
        "No, the sweater is not waterproof.", "Portugal", "two",
    ),
    "T-shirt": (
        "T-shirt,t-shirt,tshirt,shirt", 19, "white,black,blue",
        "The T-shirt comes in sizes XS to XXL.", "organic cotton",
        "You can wash the T-shirt in the machine at 40 degrees.",
        "No, the T-shirt is not waterproof.", "Portugal", "two",
    ),
    "hiking boots": (
        "hiking boots,boots,boots", 119, "brown,black",
        "The hiking boots come in sizes 36 to 46.", "leather",
        "Please brush the hiking boots and treat them with wax.",
        "Yes, the hiking boots are waterproof.", "Portugal", "two",
    ),
    "water bottle": (
        "water bottle,bottle,bottle", 24, "silver,green",
        "The water bottle comes in one size and holds 750 ml.", "stainless steel",
        "You can put the water bottle in the dishwasher.",
        "The water bottle is leakproof, so you can put it in your bag.", "Germany", "two",
    ),
    "blanket": (
        "blanket,blanket,wool blanket", 45, "grey,red",
        "The blanket comes in one size, 130 by 180 cm.", "wool and cotton",
        "You can wash the blanket in the machine at 30 degrees.",
        "No, the blanket is not waterproof.", "Portugal", "two",
    ),
    "desk lamp": (
        "desk lamp,lamp,lamp", 39, "white,black",
        "The desk lamp comes in one size and is 40 cm tall.", "aluminium",
        "Please clean the desk lamp with a dry cloth.",
        "No, the desk lamp is for indoors only.", "Germany", "two",
    ),
    "mug": (
        "mug,mug,cup", 12, "blue,white*",
        "The mug comes in one size and holds 300 ml.", "ceramic",
        "You can put the mug in the dishwasher.",
        "The mug has no lid, so it is only for use at home.", "Germany", "two",
    ),
    "tent": (
        "tent,tent", 149, "green,orange*",
        "The tent comes in one size and sleeps two people.", "polyester",
        "Please wipe the tent with a damp cloth and let it dry before you pack it.",
        "Yes, the tent is waterproof.", "Poland", "five",
    ),
}  # fmt: skip
COLOURS = "green black blue yellow grey red white brown orange pink purple".split()
SIZES = "XS S M L XL XXL".split()
SIZES_OF = {"rain jacket": "S M L XL".split(), "sweater": "S M L XL".split(), "T-shirt": SIZES}
CLOTH = "backpack,rain jacket,sweater,T-shirt,blanket,tent".split(",")
DRINKWARE = ["water bottle", "mug"]
CAPACITIES = {
    "backpack": "how many litres does the backpack hold?|how much can I put in the backpack?|how many litres is the backpack?",
    "water bottle": "how much does the bottle hold?|how much water can I put in the bottle?|how many ml are in the bottle?",
    "mug": "how much does the mug hold?|how much coffee can I put in the mug?|how many ml are in the cup?",
    "tent": "how many people does the tent hold?|is the tent big enough for two people?|for how many people is the tent?",
}
FITS = {
    "rain jacket": "The rain jacket is true to size, so please take your usual size.",
    "sweater": "The sweater runs small, so please take one size up.",
    "T-shirt": "The T-shirt is true to size, so please take your usual size.",
    "hiking boots": "The hiking boots run small, so please take one size up.",
}
NEEDS = {
    "hiking boots": "hiking,long walks,walking in the mountains",
    "rain jacket": "rainy days,wet weather,rain",
    "sweater": "cold days,the winter,cold weather",
    "tent": "camping,a camping trip,sleeping outdoors",
    "blanket": "cold evenings,the sofa,cosy evenings at home",
    "desk lamp": "reading at my desk,my home office,my desk",
    "water bottle": "drinks on the way,taking water to work,the gym",
    "mug": "coffee,a coffee lover,tea",
    "backpack": "carrying my books,carrying my laptop,school",
    "T-shirt": "hot days,the summer,warm weather",
}
# what the customer says is not what the assistant says back
NEEDS_BACK = {"my": "your"}
UNSOLD = (
    "bikes phones books toys jeans socks sunglasses laptops sneakers gloves watches perfume hats chairs umbrellas trousers"
    " cameras".split()
)

# where to: other names, working days, euros, free from
COUNTRIES = {
    "Ireland": ("Ireland", 2, 4, 50),
    "the UK": ("the UK,UK,England,Scotland,the United Kingdom", 3, 6, 100),
    "France": ("France", 4, 8, 100),
    "Belgium": ("Belgium", 4, 8, 100),
    "the Netherlands": ("the Netherlands,Holland,the Netherlands", 4, 8, 100),
    "Germany": ("Germany", 5, 8, 100),
    "Austria": ("Austria", 5, 8, 100),
    "Spain": ("Spain", 6, 9, 100),
    "Italy": ("Italy", 6, 9, 100),
    "Portugal": ("Portugal", 6, 9, 100),
    "Sweden": ("Sweden", 7, 10, 100),
    "Poland": ("Poland", 7, 10, 100),
    "the USA": ("the USA,the US,America,the United States", 10, 20, 0),
    "Canada": ("Canada", 10, 20, 0),
}
NOT_DELIVERED = "Australia,Japan,Brazil,India,China,Mexico,Turkey,Norway,South Africa".split(",")
STORES = {"Dublin": "12 Mill Street", "Cork": "5 Harbour Road", "Galway": "8 Market Square"}
NO_STORES = "London Paris Berlin Limerick Belfast Madrid".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
PAYMENTS = {
    "credit card": ("yes", "credit card,card,Visa,Mastercard"),
    "debit card": ("yes", "debit card,my bank card"),
    "PayPal": ("yes", "PayPal,paypal"),
    "Apple Pay": ("yes", "Apple Pay"),
    "gift card": ("yes", "gift card,a gift card"),
    "bank transfer": ("no", "bank transfer,transfer"),
    "invoice": ("no", "invoice"),
    "cash": ("no", "cash,cash on delivery"),
    "American Express": ("no", "American Express,Amex"),
    "Bitcoin": ("no", "Bitcoin,crypto"),
}
AMOUNTS = (5, 20, 25, 30, 50, 75, 100, 150, 300, 500)  # gift cards asked for, in euros
ORDERS = "4711 1204 1873 2056 2318 2590 3047 3362 3819 4105 4428 5016 5273 5640 6102 6387 6951 7214 7735 8049 8366 9120".split()
OFF_TOPIC = {
    "weather": "what is the weather like today?|will it rain tomorrow?|is it going to snow this week?",
    "poem": "write me a poem|can you write a poem about the sea?|please write a song for my wife",
    "joke": "tell me a joke|do you know a good joke?|make me laugh",
    "news": "what is in the news today?|who won the election?|what do you think about politics?",
    "sport": "who won the match last night?|who is the best football player?|what is the score of the game?",
    "cooking": "how do I cook rice?|do you have a recipe for pancakes?|what should I cook tonight?",
    "maths": "what is 12 times 7?|can you help me with my homework?|what is the square root of 81?",
    "health": "I have a headache, what can I take?|my knee hurts, what should I do?|can you give me medical advice?",
    "travel": "can you book me a flight?|which hotel in Rome is good?|how do I get to the airport?",
    "code": "can you write code for me?|fix my python program|how do I install linux?",
    "money": "should I buy shares?|which stocks will go up?|can you lend me money?",
    "history": "who was the first man on the moon?|when did the war end?|what is the capital of Peru?",
    "film": "which film should I watch tonight?|what is your favourite song?|do you like music?",
    "love": "do you love me?|will you marry me?|do you have a girlfriend?",
}


def listed(words, last="and"):
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + f" {last} " + words[-1]


def product(name):
    other, price, colours, sizes, material, care, water, origin, warranty = PRODUCTS[name]
    many = name == "hiking boots"
    colours = colours.split(",")
    sold_out = [c[:-1] for c in colours if c.endswith("*")]
    return {
        "p": name, "user": {"p": other.split(",")},
        "is": "are" if many else "is", "does": "do" if many else "does", "s": "" if many else "s",
        "it": "they" if many else "it", "them": "them" if many else "it",
        "has": "have" if many else "has", "a": "" if many else "a ", "one": "ones" if many else "one",
        "price": str(price), "colours": listed([c.strip("*") for c in colours]), "sizes": sizes, "material": material,
        "care": care, "water": water, "origin": origin, "warranty": warranty,
        "sold_out": listed(sold_out) if sold_out else "", "stock": "part" if sold_out else "all",
        "cloth": "yes" if name in CLOTH else "no",
    }  # fmt: skip


def container(name):
    value = product(name)
    return {**value, "user": {**value["user"], "fits": CAPACITIES[name].split("|")}}


def in_colours(name):
    for colour in sorted({*COLOURS, "silver"}):
        offered = PRODUCTS[name][2].split(",")
        stock = "yes" if colour in offered else "out" if colour + "*" in offered else "no"
        # what is not made is asked for less often than what is
        for _ in range(1 if stock == "no" else 10):
            yield {**product(name), "colour": colour, "stock": stock}


def in_sizes(name):
    for size in SIZES:
        yield {**product(name), "size": size, "made": "yes" if size in SIZES_OF[name] else "no"}


def need(name, words):
    back = " ".join(NEEDS_BACK.get(word, word) for word in words.split())
    return {**product(name), "need": back, "user": {"need": [words]}}


def country(name):
    if name in NOT_DELIVERED:
        return {"country": name, "ships": "no"}
    other, days, cost, free = COUNTRIES[name]
    region = "home" if name == "Ireland" else "europe" if free else "far"
    return {
        "country": name, "user": {"country": other.split(",")}, "ships": "yes", "days": str(days), "cost": str(cost),
        "free": str(free), "region": region, "home": "yes" if region == "home" else "no",
    }  # fmt: skip


def day(name):
    kind = {"Saturday": "saturday", "Sunday": "sunday"}.get(name, "week")
    return {"day": name, "when": kind, "user": {"day": [name]}}


KINDS = {
    "none": [{}],
    "product": [product(name) for name in PRODUCTS],
    "colour": [value for name in PRODUCTS for value in in_colours(name)],
    "wearable": [{**product(name), "fit": fit} for name, fit in FITS.items()],
    "outdoor": [product(name) for name in PRODUCTS if name not in DRINKWARE],
    "drinkware": [product(name) for name in DRINKWARE],
    "container": [container(name) for name in CAPACITIES],
    "sold_out": [product(name) for name in PRODUCTS if product(name)["sold_out"]],
    "size": [value for name in SIZES_OF for value in in_sizes(name)],
    "unsold": [{"thing": thing} for thing in UNSOLD],
    "need": [need(name, words) for name, needs in NEEDS.items() for words in needs.split(",")],
    "country": [country(name) for name in [*COUNTRIES, *COUNTRIES, *NOT_DELIVERED]],
    "served": [country(name) for name in COUNTRIES],
    "city": [{"city": name, "store": "yes", "street": street} for name, street in STORES.items()] * 4
    + [{"city": name, "store": "no"} for name in NO_STORES],
    "day": [day(name) for name in [*DAYS, "Saturday", "Saturday", "Sunday", "Sunday"]],
    "payment": [{"way": way, "taken": taken, "user": {"way": other.split(",")}} for way, (taken, other) in PAYMENTS.items()],
    "order": [{"number": number, "known": "yes"} for number in ORDERS] + [{"number": "none", "known": "no"}] * 6,
    "given": [{"number": number} for number in ORDERS],
    "amount": [{"amount": str(n), "fits": "yes" if 10 <= n <= 200 else "no"} for n in AMOUNTS],
    "offtopic": [{"wish": wish, "user": {"wish": words.split("|")}} for wish, words in OFF_TOPIC.items()],
}
