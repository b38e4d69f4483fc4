"""Reads the intents: what customers want, how they say it, and what the assistant answers.

An intent starts with `== name kind weight`: the kind of its slots (see shop.py), and how often a conversation begins with it.

    U how much {is} the {p}?            the customer's question, complete
    S and the {p}?                      the same question about something else, right after this intent
    B how much {is} {it}?               the question when the turn before has named the product (country, ...)
    F recommend price: any discount?    the question right after one of these intents
    F store?store=yes: and when?        ... if it was about a value with this entry
    N recommend *?ships=no              B makes no sense after these
    A the answer
    A ships=no: the answer              ... for values with this entry
    --                                  the conversation goes on: the assistant has asked something; U and A as above
    -- country                          ... and the customer's reply names a value of this kind

`U` too may be for some values only. In a text `[red|blue|]` is one of these, `{p}` a slot. Words that stand alone are marks:
`angry` customers ask this, `opener` and `closer` begin and end a conversation, after `asks` the assistant waits for a question,
after `end` only a goodbye fits, `sad` closers follow bad news.
"""

import os
import re
from dataclasses import dataclass, field

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "intents")
MARKS = {"angry", "opener", "closer", "asks", "end", "sad"}


def pick(rng, options):
    """One of the options; rng.random() alone gives the same draws on every version of Python."""
    return options[int(rng.random() * len(options))]


@dataclass
class Guarded:
    text: str
    key: str = ""
    value: str = ""

    def fits(self, values):
        return not self.key or values.get(self.key) == self.value


@dataclass
class Turn:
    kind: str
    asks: list = field(default_factory=list)
    answers: list = field(default_factory=list)


@dataclass
class Intent:
    name: str
    topic: str
    kind: str
    weight: int
    marks: set = field(default_factory=set)
    turns: list = field(default_factory=list)
    same: list = field(default_factory=list)
    bare: list = field(default_factory=list)
    after: list = field(default_factory=list)  # ([(intent, Guarded)], text)
    not_after: list = field(default_factory=list)


def guarded(text):
    match = re.match(r"(\w+)=(\w+): (.*)", text)
    return Guarded(match[3], match[1], match[2]) if match else Guarded(text)


def conditions(words):
    """`price store?store=yes` as [(intent, condition)]."""
    found = []
    for word in words.split():
        name, _, test = word.partition("?")
        key, _, value = test.partition("=")
        found.append((name, Guarded("", key, value)))
    return found


def meets(words, name, values):
    return any(wanted in (name, "*") and test.fits(values) for wanted, test in words)


def load():
    """All intents by name; a mistake in a file stops with its name and line."""
    intents = {}
    for file in sorted(os.listdir(FOLDER)):
        with open(os.path.join(FOLDER, file), encoding="ascii") as lines:
            for number, line in enumerate(lines, 1):
                read_line(intents, file, number, line.strip())
    for intent in intents.values():
        for wanted in [name for words, _ in intent.after for name, _ in words] + [name for name, _ in intent.not_after]:
            if wanted != "*" and wanted not in intents:
                raise SystemExit(f"intent {intent.name} follows {wanted}, which does not exist")
    return intents


def read_line(intents, file, number, line):
    start, _, rest = line.partition(" ")
    intent = list(intents.values())[-1] if intents else None
    if not line:
        return
    if start == "==":
        name, kind, weight = rest.split()
        if name in intents:
            raise SystemExit(f"{file}:{number}: {name} exists already")
        intents[name] = Intent(name, file.split(".")[0], kind, int(weight), turns=[Turn(kind)])
    elif intent is None:
        raise SystemExit(f"{file}:{number}: a file starts with == name kind weight")
    elif start == "--":
        intent.turns.append(Turn(rest or "none"))
    elif start in MARKS and not rest:
        intent.marks.add(start)
    elif start == "U":
        intent.turns[-1].asks.append(guarded(rest))
    elif start == "A":
        intent.turns[-1].answers.append(guarded(rest))
    elif start == "S":
        intent.same.append(rest)
    elif start == "B":
        intent.bare.append(rest)
    elif start == "F":
        words, _, text = rest.partition(": ")
        intent.after.append((conditions(words), text))
    elif start == "N":
        intent.not_after += conditions(rest)
    else:
        raise SystemExit(f"{file}:{number}: a line starts with ==, --, U, S, B, F, N, A or is a mark, not {start!r}")


def expand(rng, text, values):
    """Draws the choices, innermost first, and fills in the slots; `{It}` is `{it}` with a capital."""
    choice = re.compile(r"\[([^\[\]]*)\]")
    while choice.search(text):
        text = choice.sub(lambda match: pick(rng, match[1].split("|")), text, count=1)

    def slot(match):
        name = match[1]
        return values[name] if name in values else values[name.lower()].capitalize()

    text = re.sub(r"\{(\w+)\}", slot, text)
    text = re.sub(r"\ba (?=[aeio])", "an ", text)
    return re.sub(r" +(?=[ ?.,]|$)", "", text).strip()
