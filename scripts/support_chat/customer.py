"""How a customer writes: polite, curt, chatty or angry, with or without capitals, now and then with a typo."""

import re
from dataclasses import dataclass

from .grammar import pick

GREETINGS = [
    "hi, ", "hello, ", "hey, ", "good morning, ", "hi! ", "hello! ", "good evening, ", "hi there, ", "dear Pinewick team, ",
]  # fmt: skip
THANKS = ["thank you!", "thanks!", "thanks in advance!", "thank you in advance."]
ANGER = [
    "this is ridiculous. ", "I am really annoyed. ", "I am very angry. ", "this is not ok. ", "seriously? ", "unbelievable. ",
    "I am so disappointed. ", "not again! ", "what is going on? ", "I have had enough. ",
]  # fmt: skip
STARTS = ["sorry to bother you, but ", "quick question: ", "just one question: ", "I have a question: ", "excuse me, "]
CHAT = {
    "products": ["I was looking at your site all evening. ", "my friend told me about your shop. ", "I love your shop. ",
                 "we are going on a trip soon. ", "I really like your things. ", "I am thinking about buying something. "],
    "delivery": ["I have never ordered from you before. ", "I am about to order. ", "I want to order a present. ",
                 "my friend told me about your shop. ", "I am thinking about ordering. "],
    "returns": ["I have a question about returns. ", "I could not find it on your site. "],
    "payment": ["I have never ordered from you before. ", "I could not find it on your site. ", "I am about to order. "],
    "service": ["I could not find it on your site. ", "I looked everywhere. "],
}  # fmt: skip
JOINTS = [
    "ok. ", "thanks. ", "one more question: ", "another question: ", "ok, thanks. ", "good. ", "one more thing: ", "great. ", "", "",
]  # fmt: skip
SAD_JOINTS = ["ok. ", "too bad. ", "I see. ", "all right. ", "hmm, ok. ", "pity. ", "", ""]
MISSPELT = {
    "receive": "recieve", "address": "adress", "return": "retrun", "delivery": "delivary", "please": "pls", "you": "u",
    "what is": "whats", "do not": "dont", "can't": "cant", "don't": "dont", "received": "recieved", "are": "r",
    "password": "pasword",
    "jacket": "jaket", "tomorrow": "tomorow", "because": "becuase", "waterproof": "water proof", "available": "availible",
    "voucher": "vocher", "payment": "paymnet", "the": "teh", "blanket": "blankett", "refund": "refound", "exchange": "exchage",
    "it is": "its", "I am": "im", "and": "&", "discount": "discout", "parcel": "parcle", "how": "hwo",
}  # fmt: skip


@dataclass
class Customer:
    mood: str
    lower: bool
    careless: bool  # leaves out the last full stop or question mark
    typos: float

    @classmethod
    def draw(cls, rng):
        roll = rng.random()
        mood = "polite" if roll < 0.28 else "chatty" if roll < 0.48 else "curt" if roll < 0.7 else "plain"
        lower = rng.random() < (0.7 if mood == "curt" else 0.4)
        careless = rng.random() < (0.6 if lower else 0.12)
        return cls(mood, lower, careless, pick(rng, [0, 0, 0, 0.15, 0.3] if lower else [0, 0, 0, 0, 0.12]))

    def opens(self, rng, text, intent, greeted):
        """The first question, with what this customer says around it. True if it greets, True if it is angry."""
        if "angry" in intent.marks and rng.random() < 0.4:
            return pick(rng, ANGER) + text, False, True
        if intent.topic == "small_talk":
            return text, False, False
        greets = not greeted and rng.random() < {"polite": 0.75, "chatty": 0.45, "curt": 0.0, "plain": 0.2}[self.mood]
        asks = text.endswith("?")
        if self.mood == "chatty" and asks and "." not in text:
            started = rng.random()
            if started < 0.6 and intent.topic in CHAT:
                text = pick(rng, CHAT[intent.topic]) + text
            elif len(text.split()) > 4:
                text = pick(rng, STARTS) + text
        if self.mood == "polite" and "angry" not in intent.marks and rng.random() < 0.4:
            if asks and rng.random() < 0.4 and "please" not in text:
                text = text[:-1] + ", please?"
            elif text[-1].isalnum():
                text += ". " + pick(rng, THANKS)
            else:
                text += " " + pick(rng, THANKS)
        return (pick(rng, GREETINGS) if greets else "") + text, greets, False

    def goes_on(self, rng, text, sad):
        """A new question later in the conversation."""
        joints = SAD_JOINTS if sad else JOINTS
        return pick(rng, joints if text.endswith("?") else [joint for joint in joints if not joint.endswith(": ")]) + text

    def writes(self, rng, text):
        """The text as this customer types it."""
        text = self.mistypes(rng, text)
        if self.lower:
            text = text.lower()
        else:
            text = re.sub(r"(^|[.!?] )([a-z])", lambda m: m[1] + m[2].upper(), text)
        if self.careless:
            return re.sub(r"[.?]$", "", text)
        return text + ("." if not self.lower and text[-1].isalnum() and len(text.split()) > 2 and rng.random() < 0.7 else "")

    def mistypes(self, rng, text):
        if rng.random() >= self.typos * 2:
            return text
        if rng.random() < 0.6:
            known = [word for word in MISSPELT if re.search(rf"\b{word}\b", text)]
            if known:
                word = pick(rng, known)
                return re.sub(rf"\b{word}\b", MISSPELT[word], text, count=1)
        words = text.split(" ")
        long = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha() and word.islower()]
        if not long:
            return text
        at = pick(rng, long)
        word, i = words[at], 1 + int(rng.random() * (len(words[at]) - 2))
        slip = rng.random()
        if slip < 0.4:
            words[at] = word[:i] + word[i + 1] + word[i] + word[i + 2 :]
        elif slip < 0.75:
            words[at] = word[:i] + word[i + 1 :]
        else:
            words[at] = word[:i] + word[i] + word[i:]
        return " ".join(words)
