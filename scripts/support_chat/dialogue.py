"""How a conversation goes: a question, what follows from it, perhaps another question, a goodbye."""

import re
from collections import Counter

from . import shop
from .customer import Customer
from .grammar import expand, meets, pick

LENGTHS = [1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4]  # turns aimed at
MOST_TURNS = 4
SAME, SLOT, OTHER = 8, 4, 2  # how often the same question about something else follows, one with a slot, one without
GREETED = ["Hello! ", "Hello! ", "Hi! ", ""]
APOLOGY = re.compile(r"(I am sorry|Sorry)")
BAD_NEWS = re.compile(
    r"([Ww]e|I) (cannot|only|have no|do not (have|know|deliver|sell|accept|match))|cannot be|too late|closed|only possible"
    r"|sold out at the moment\. We|is sold out\. (It|They)|there is no|is not (free|waterproof)|for adults|at the weekend|gift cards go from"
)


def mentioned(text, kind):
    """The keys of the kind that the text names itself."""
    return [key for key in shop.KEYS[kind] if "{" + key + "}" in text]


class Writer:
    """Writes conversations; remembers what it has drawn, so that every fact comes up about equally often."""

    def __init__(self, rng, intents):
        self.rng = rng
        self.intents = intents
        self.used = Counter()
        self.starts = [intent for intent in intents.values() for _ in range(intent.weight) if intent.turns[0].asks]
        self.openers = [intent for intent in intents.values() if "opener" in intent.marks]
        self.shares = {
            kind: Counter(tuple(value[key] for key in shop.KEYS[kind]) for value in values) for kind, values in shop.KINDS.items()
        }

    def rarest(self, name, kind, candidates):
        """The value that this intent has been asked about least, in proportion to its share."""

        def age(value):
            identity = tuple(value[key] for key in shop.KEYS[kind])
            return (self.used[name, identity] + self.rng.random()) / self.shares[kind][identity]

        value = min(candidates, key=age)
        self.used[name, tuple(value[key] for key in shop.KEYS[kind])] += 1
        return value

    def text_from(self, intent, texts):
        """The text of this intent used least so far."""
        text = min(texts, key=lambda text: self.used[intent.name, text] + self.rng.random())
        self.used[intent.name, text] += 1
        return text

    def conversation(self):
        self.messages, self.done, self.values, self.last = [], set(), {}, None
        self.customer = Customer.draw(self.rng)
        self.sad = False
        turns = pick(self.rng, LENGTHS)
        if self.rng.random() < 0.12:
            self.messages.append({"role": "system", "content": shop.SYSTEM})
        self.begin(turns)
        while self.turns() < turns and self.go_on(turns):
            pass
        return self.messages

    def turns(self):
        return sum(message["role"] == "user" for message in self.messages)

    def begin(self, turns):
        if self.customer.mood != "curt" and self.rng.random() < (0.12 if turns > 1 else 0.02):
            self.ask(pick(self.rng, self.openers), plain=True)
        else:
            self.ask(pick(self.rng, self.starts), first=True)

    def go_on(self, turns):
        """One turn more, or False if nothing fits."""
        waits = "asks" in self.last.marks
        following = [] if "end" in self.last.marks else self.following()
        last_turn = self.turns() == turns - 1
        roll = self.rng.random()
        if not waits and (last_turn and roll < 0.18 or "end" in self.last.marks):
            return self.close()
        if following and roll < 0.85:
            intent = pick(self.rng, [intent for intent, weight, _ in following for _ in range(weight)])
            texts = [option for other, _, options in following if other is intent for option in options]
            text = self.text_from(intent, [text for text, _ in texts])
            candidates = next(values for other, values in texts if other == text)
            self.ask(intent, text=text, candidates=candidates)
            return True
        intent = pick(self.rng, self.starts)
        too_long = self.turns() + len(intent.turns) > MOST_TURNS
        if intent.name in self.done or too_long or intent.topic == "small_talk" and "asks" in intent.marks:
            return True  # draws again
        self.ask(intent, first=waits, joined=not waits)
        return True

    def close(self):
        closers = [i for i in self.intents.values() if "closer" in i.marks and ("sad" in i.marks) == self.sad]
        closers = [i for i in closers if self.turns() + len(i.turns) <= MOST_TURNS]
        if "end" in self.last.marks:
            closers = [self.intents["bye"]]
        self.ask(pick(self.rng, closers), plain=True)
        return False

    def following(self):
        """What may be asked now in few words: (intent, weight, [(text, values it may be about)])."""
        found = []
        for intent in self.intents.values():
            options = []
            if intent is self.last:
                options += [(text, self.others(intent.kind, text)) for text in intent.same]
            elif self.turns() + len(intent.turns) > MOST_TURNS:
                continue
            elif intent.name not in self.done and intent.weight + len(intent.after) > 0:
                if not meets(intent.not_after, self.last.name, self.values):
                    options += [(text, self.others(intent.kind, text)) for text in intent.bare]
                bridged = [text for words, text in intent.after if meets(words, self.last.name, self.values)]
                options += [(text, self.others(intent.kind, text)) for text in bridged]
            options = [(text, values) for text, values in options if values]
            if options:
                weight = SAME if intent is self.last else SLOT if intent.kind != "none" else OTHER
                found.append((intent, weight, options))
        return found

    def others(self, kind, text):
        """The values a short question can mean: what it does not name is as in the turn before, what it names is new."""
        keys, named = shop.KEYS[kind], mentioned(text, kind)
        if any(key not in self.values for key in keys if key not in named):
            return []
        return [
            value
            for value in shop.KINDS[kind]
            if all(value[key] == self.values[key] for key in keys if key not in named)
            and all(value[key] != self.values.get(key) for key in named)
        ]

    def ask(self, intent, text=None, candidates=None, first=False, joined=False, plain=False):
        """The customer asks and the assistant answers, to the end of the intent."""
        self.done.add(intent.name)
        before = self.values
        for number, turn in enumerate(intent.turns):
            if number == 0 or turn.kind != "none":
                candidates = candidates if number == 0 and candidates else shop.KINDS[turn.kind]
                self.values = self.rarest(intent.name, turn.kind, candidates)
            # what was said before counts only where the intent has no values of its own ("will it be in the sale?")
            values = self.values if intent.kind != "none" or number else {**before, **self.values}
            if number or not text:
                text = self.text_from(intent, [ask.text for ask in turn.asks if ask.fits(values)])
            spoken = {**values, **{name: pick(self.rng, words) for name, words in values.get("user", {}).items()}}
            said = expand(self.rng, text, spoken)
            greets = angry = False
            if number == 0 and first:
                said, greets, angry = self.customer.opens(self.rng, said, intent, greeted=bool(self.turns()))
            elif number == 0 and joined:
                said = self.customer.goes_on(self.rng, said, self.sad or bool(APOLOGY.match(self.messages[-1]["content"])))
            answer = expand(self.rng, self.text_from(intent, [a.text for a in turn.answers if a.fits(values)]), values)
            answer = answer[0].upper() + answer[1:]
            if angry and not APOLOGY.match(answer):
                answer = "I am sorry about that. " + answer
            elif greets:
                answer = pick(self.rng, GREETED) + answer
            self.sad = bool(BAD_NEWS.search(answer)) and intent.topic not in ("orders", "small_talk")
            self.messages += [
                {"role": "user", "content": self.customer.writes(self.rng, said)},
                {"role": "assistant", "content": answer},
            ]
        self.last = intent
