#!/usr/bin/env python3
"""Writes datasets/stories.txt: about a megabyte of simple stories, made from a grammar of our own.

    python3 scripts/make_stories.py                      # writes datasets/stories.txt
    python3 scripts/make_stories.py --seed 7 --bytes 50000 --out /tmp/x.txt

Standard library only, Python 3.9 or later; the same seed gives the same bytes on every version and machine.

A story is one plot told once. Its cast, its objects and its places are drawn first and stay the same to the end: the toy
that is lost is the toy that is found. Then each beat of the plot (who, what happens, how it turns out) is told by one of
several templates. The templates are at the end of this file, in a small language:

    [red|blue|]   one of these, drawn anew (may be nested, may be empty)
    <sad>         one of that word list, drawn anew
    {A} {he}      the story's cast and objects, the same all through the story

A plot starts with `== name` and who may play it. `name: a | b` draws one value for the whole story, `case:` lines draw
several values that belong together. Then come the beats, separated by blank lines, one template a line; a beat that
starts with `?` is told in four of ten stories. "a" becomes "an" where it has to.
"""

import argparse
import os
import random
import re

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "datasets", "stories.txt")

GIRLS = "Lily Mia Anna Rosa Sara Ella Nora Lucy Zoe Ivy Kate Molly".split()
BOYS = "Tom Ben Max Sam Leo Jack Tim Finn Noah Oscar Hugo Dan".split()
SHE_ANIMALS = "Dot Coco Goldie Hazel".split()
HE_ANIMALS = "Pip Rusty Bobo Nibbles".split()
ANIMALS = "rabbit fox bear mouse duck squirrel hedgehog frog pig turtle".split()
ADULTS = [("mom", "she"), ("dad", "he"), ("grandma", "she"), ("grandpa", "he")]
MAX_SENTENCES = 12  # a story that comes out longer is told again, more shortly
PRONOUNS = {"he": ("he", "him", "his", "himself"), "she": ("she", "her", "her", "herself")}

WORDS = {
    "day": "One day | One morning | One afternoon | One sunny day | One sunny morning | One warm day | One bright morning"
    " | One quiet afternoon | One fine day | One Sunday",
    "trait": "kind | brave | shy | curious | clever | funny | gentle | cheerful | quiet | busy | friendly",
    "sad": "sad | very sad | upset | so sad | sad and alone",
    "glad": "happy | glad | very happy | so happy | full of joy",
    "smiled": "smiled | laughed | gave a big smile | smiled from ear to ear",
    "went": "went | walked | ran | skipped",
    "played": "ran and jumped and played | played for a long time | climbed and ran all over | danced and sang"
    " | chased the butterflies | rolled in the grass",
    "nothing": "a old shoe | a sleepy frog | some dry leaves | a fat worm | a heap of sand | a gray stone | a broken cup"
    " | a long brown feather",
    "food": "apples | berries | bread | nuts | soup | cookies | carrots | cheese | honey | pears",
    "until": "the sun went down | it was dark | the stars came out | it was time for dinner | the moon was high in the sky",
    "intro": "Once upon a time, there was a [little |small |young |]{kind} named {A}."
    " | Once there was a <trait> {kind} named {A}."
    " | Once upon a time, a <trait> {kind} named {A} lived {home}."
    " | There once was a {kind} named {A} who lived {home}."
    " | {A} was a <trait> {kind} who lived {home}."
    " | {A} was a <trait> little {kind}."
    " | {cap_home}, there lived a [<trait> |little |]{kind} named {A}.",
}

# "red,blue ball" is a ball, red in one story and blue in another.
TOYS = (
    "red,blue,green,yellow ball | red,blue,big kite | little,red,fast,wooden toy car | soft,brown,old teddy bear"
    " | pretty,little,new doll | warm,green,blue hat | long,red,soft scarf | small,wooden,white toy boat"
    " | shiny,silver,little bell | blue,green,shiny marble | new,thick,big book | loud,red,little drum"
    " | white,pink,pretty shell | shiny,red,big button | yellow,green,little bucket | silver,tiny,blue whistle"
    " | golden,small,shiny key | purple,orange,little bag"
)
PLACES = (
    "in the park | in the garden | by the river | in the forest | at the beach | on the farm | near the lake"
    " | on the green hill | in the meadow | at the playground | in the big field | by the pond"
)
SPOTS = (
    "under a bush | behind a big rock | in the tall grass | under a old bench | next to a tall tree | in a small hole"
    " | between two stones | under a pile of leaves | on top of a log | behind a fence | beside the path | in a puddle"
    " | inside a hollow tree | in a bed of flowers | under a wooden bridge"
)
CHILD_HOMES = (
    "in a small house by the sea | in a little town | in a tall yellow house | on a farm | near a big forest"
    " | in a quiet village | at the end of a long road | in a house with a red door | on top of a hill"
)
ANIMAL_HOMES = (
    "in a cozy den | under a old oak tree | in a little hole near the pond | deep in the green forest"
    " | at the edge of the meadow | by a small river | in a warm nest of leaves | on the side of a hill"
)

PLOTS = r"""
== lost child animal
item: TOYS
- <intro>

- {He} had a {adj} {item} that {he} loved [very much|more than anything|with all {his} heart].
- {His} favorite thing in the world was a {adj} {item}.
- {His} {adult} had given {him} a {adj} {item}, and {he} took it [everywhere|along wherever {he} went|to bed every night].
- {He} played with {his} {adj} {item} [every day|from morning to night|all the time].
- For {his} birthday, {he} got a {adj} {item}, and {he} was very proud of it.

- <day>, {he} took the {item} [with {him} |along ]to {place}.
- <day>, {A} went to play {inplace} and brought the {item} along.
- <day>, {A} <went> to {place} with the {item} [in {his} hand|in {his} basket|under {his} arm].
- <day>, {A} and {his} {adult} went for a walk {inplace}, and the {item} came too.

- But when it was time to go home, the {item} was gone!
- {He} <played>, and when {he} [stopped|looked around], the {item} was [gone|nowhere to be seen].
- Then {A} looked into {his} basket, and the {item} was not there!
- After a while, {A} saw that the {item} was missing.
- There {he} <played>. Then {he} stopped. Where was the {item}?

?
- "Oh no! Where is my {item}?" {he} cried.
- {A} felt <sad> and began to cry.
- "I have lost my {item}!" said {A}, and a [big|fat] tear ran down {his} [cheek|face|nose].
- {His} heart [beat fast|felt heavy], and {he} did not know what to do.
- "My {adj} {item}!" {he} cried. "I must find it!"

?
- {He} looked {spot1}, but [it was not there|{he} found only <nothing>|there was only <nothing>].
- First {he} looked {spot1}. Then {he} looked {spot3}. There was no {item}.
- {He} looked [high and low|here and there|all around], but {he} found only <nothing>.
- {He} [turned|went] back and looked {spot1}, but all {he} saw was <nothing>.

- {CHintro} [heard {him} cry|saw {his} tears|heard the noise] and [came to help|ran over to help].
- "Do not cry," said {Hintro}. "[We will find it together|Let us look together|I will help you look]."
- {CHintro} asked, "What is wrong?" {A} told {hhim} about the {item}.
- Just then, {Hintro} came by. "[Let me help you|Two can look better than one|Come, let us look again]," said {H}.

- They looked {spot2}, and there it was!
- {CH} looked {spot2} and [laughed|smiled]. "Is this your {item}?" {hhe} asked.
- [At last|After a long time|Soon], they found the {item} {spot2}.[ It was wet, but it was fine.| It was a little dirty.|]
- Then they saw something {adj} {spot2}. It was the {item}!

?
- "Thank you, {Hcall}!" said {A}, and {he} gave {hhim} a big hug.
- {A} [jumped up and down|danced around|clapped {his} hands] with joy.
- {A} hugged the {item} [tight|and would not let go] and <smiled>.
- "[Thank you, thank you|You found it|Hooray]!" cried {A}. {He} was <glad>.

- From that day on, {A} [always took good care of the {item}|never left the {item} behind|looked after the {item} every day].
- {A} and {H} played with the {item} until <until>.
- On the way home, {A} held the {item} [very tight|close to {his} heart|in both hands].
- That night, {he} slept with the {item} [under {his} pillow|next to {his} bed|by {his} side].


== rescue child
case: pet=kitten; call=Meow; seen=high up in a tree; trouble=It was too scared to come down; act=got a ladder and climbed up slowly; then=put the kitten inside {his} coat and carried it down; thanks=The kitten purred and licked {his} nose
case: pet=bird; call=Cheep; seen=on the cold ground; trouble=One of its wings was hurt; act=made a soft nest in a box; then=gave it water and seeds every day until the wing was strong; thanks=The bird sat on {his} hand and sang a sweet song
case: pet=turtle; call=Bump; seen=on its back in the road; trouble=It could not turn over; act=picked it up very gently; then=carried it across the road to the soft grass; thanks=The turtle looked up and blinked slowly
case: pet=puppy; call=Woof; seen=at the bottom of a deep hole; trouble=It could not climb out; act=lay down and reached into the hole; then=pulled the puppy up by its little paws; thanks=The puppy wagged its tail and jumped all over {him}
case: pet=frog; call=Croak; seen=in a deep bucket; trouble=It could not jump high enough to get out; act=tipped the bucket on its side; then=let the frog hop out into the wet grass; thanks=The frog croaked three times, as if to say thank you
case: pet=lamb; call=Baa; seen=by a old fence; trouble=Its wool was caught on the wire; act=knelt down and held it still; then=pulled the wool free, one bit at a time; thanks=The lamb pushed its soft head into {his} hand
case: pet=duckling; call=Peep; seen=behind a closed gate; trouble=Its mother was on the other side; act=opened the heavy gate; then=led the duckling back to its mother; thanks=The mother duck quacked, and the duckling shook its tail
case: pet=hedgehog; call=Squeak; seen=in a garden net; trouble=Its feet were stuck in the net; act=put on thick gloves; then=cut the net with small scissors; thanks=The hedgehog sniffed {his} shoe and rolled into a happy ball
- <intro>
- <intro> {He} loved animals [very much|more than toys|of every kind].

- <day>, {A} was walking {inplace} when {he} heard a [small|soft|sad] sound.
- <day>, on the way home, {he} heard something.
- <day>, {A} went to {place} to [pick flowers|play|look for shells], but {he} stopped when {he} heard a noise.
- It was [late|early] when {A} heard a strange sound {inplace}.

?
- "{call}! {call}!"[ What could it be?|]
- "{call}! {call}!" [It came again and again.|It did not stop.|{A} looked around.]

- It was a [little|tiny|poor] {pet} {seen}. {trouble}.
- {A} saw a [little|small] {pet} {seen}. {trouble}.
- {He} looked and looked, and then {he} found a {pet} {seen}. {trouble}.
- There, {seen}, was a [little|tiny] {pet}. {trouble}.

?
- "You poor {pet}," said {A}. "I will help you."
- "Do not be afraid," {he} said [softly|in a kind voice|with a smile].
- "Wait there, little {pet}!" {he} said. "[I have an idea|I know what to do|Help is coming]."
- {A} felt sorry for the {pet}. "Nobody should be so scared," {he} said.

?
- {He} was a little scared too, but {he} wanted to be brave.
- "Please be careful," said {his} {adult}.
- The {pet} shook with fear, but {A} stayed close to it.
- {He} called for {his} {adult}, but nobody came.

- {A} {act}. Then {he} {then}.
- So {A} {act}. After that, {he} {then}.
- {A} {act} and {then}.
- First {A} {act}. Next {he} {then}. It was not easy.

- {thanks}.
- {thanks}. {A} was <glad>.
- "You are safe now," said {A}. {thanks}.

- From that day on, the {pet} and {A} were [best|good|the best of] friends.
- Every [day|morning|week] after that, the {pet} came to {his} door to say hello.
- "[You did a good thing|You have a kind heart|I am proud of you]," said {his} {adult}, and {A} <smiled>.
- {A} waved goodbye and <went> home. {He} felt warm inside all evening.
- {A} told everyone about the {pet}, and they all said that {he} was very [brave|kind].


== share child animal
item: TOYS
- <intro> {His} best friend was {B}.
- {A} and {B} were best friends. [They did everything together.|They played together every day.|They lived side by side {home}.]
- Once upon a time, there were two friends named {A} and {B}.

- <day>, they found a {adj} {item} {inplace}.
- <day>, {A} got a new {item}. It was {adj}, and {he} took it to {place} to show it to {B}.
- <day>, {A} came to {place} with a {adj} {item}. {B} had never seen such a nice {item}.
- <day>, they were playing {inplace} when they saw a {adj} {item} {spot1}.

- "Give it to me!" said {B}. "No, it is mine!" said {A}.
- "Can I play with the {item}?" asked {B}. "No!" said {A}. "It is only for me."
- Both of them wanted the {item}. {A} pulled on one side, and {B} pulled on the other.
- {B} wanted to hold the {item}, but {A} [would not let go|hid it behind {his} back|ran away with it].

?
- {B} began to cry and [went home|sat down alone|turned away].
- They [shouted|yelled] at each other until both of them were [red in the face|tired and sad].
- {B} was <sad>. "You are not a good friend," {bhe} said.
- After that, nobody said a word. It was not a nice day anymore.

?
- {A} played with the {item} alone, but [it was no fun|it was not much fun|{he} felt bad].
- {A} looked at the {item}. [It did not look so nice now.|It was not as nice as a friend.]
- {His} {adult} saw it all. "A {item} is more fun when you share it," said {his} {adult}.
- "What is wrong?" asked {his} {adult}. {A} told the whole story and looked at {his} feet.

- {A} thought about it. Then {he} <went> to {B} and said, "I am sorry. [Let us share|You can have a turn|We can play together]."
- "I am sorry, {B}," said {A}. "You can [have it first|hold it now|play with it too]."
- {A} [took a deep breath|thought for a long time]. "Here, {B}," {he} said. "It is your turn now."

?
- {B} <smiled>. "Thank you," {bhe} said. "I am sorry too."
- {B} wiped {bhis} eyes and [hugged {A}|took {A} by the hand].
- {B} was <glad>. "You are my best friend," {bhe} said.

- They took turns with the {item} until <until>.
- They played together all [day|afternoon], and it was twice as much fun.
- From then on, {A} and {B} shared [everything|all their toys|every toy they had].
- After that day, they never fought about a {item} again.


== fear child animal adult
case: fear=the dark; when=When the light went out at night, {he} hid under the blanket; reason=There are no monsters. The night is only the day asleep; act=looked out of the window; see={He} saw the moon and a thousand little stars; now=slept without a light
case: fear=thunder; when=When the sky went boom, {he} hid under the bed; reason=Thunder is just the clouds playing drums; act=sat by the window and counted with {H}; see=One, two, three, boom! It was almost like a song; now=clapped {his} hands at every boom
case: fear=deep water; when=When the others went to swim, {he} stayed on the sand; reason=You can start where the water is low; act=put one foot into the water, and then the other; see=The water was warm, and small fish swam around {his} feet; now=was the first one in the water
case: fear=the big slide; when=When the others went up the steps, {he} stayed at the bottom; reason=You can go down with me the first time; act=climbed up, one step at a time; see=Then down {he} went, fast like the wind; now=went down the slide again and again
case: fear=the big dog next door; when=When the dog barked, {he} ran away; reason=He only barks because he wants to play; act=held out {his} hand to the dog; see=The dog sniffed it and wagged his long tail; now=played with the dog every day
case: fear=high places; when=When the others climbed the hill, {he} stayed down below; reason=Do not look down. Look at me; act=climbed up, step by step; see=From the top, {he} could see the river, the fields and the whole village; now=climbed up there every week
case: fear=spiders; when=When {he} saw one, {he} jumped on a chair; reason=A spider is much smaller than you, and it works hard all day; act=came a little closer to look; see=The web was full of tiny drops, and it shone like silver; now=said good morning to every spider
- <intro> {He} was [not afraid of much|brave in many ways], but {he} was afraid of {fear}.
- <intro> There was one thing {he} did not like: {fear}.
- {A} was a <trait> little {kind} who was very scared of {fear}.

- {when}.
- {when}. {His} [heart beat fast|knees shook].
- {when} and [closed {his} eyes|held {his} breath].

?
- "I am [so |too |]scared," said {A}.
- "I cannot do it," {he} said [in a small voice|with tears in {his} eyes].
- {He} felt [small and silly|<sad>], because {he} wanted to be brave.
- {He} thought that everyone would laugh, and that made {him} feel <sad>.

- {CHintro} sat down next to {him}. "{reason}," said {H}.
- "[Come with me|Give me your hand|Do not worry]," said {Hintro}. "{reason}."
- {CHintro} did not laugh. "I was scared too, once," said {H}. "{reason}."

- {A} took a deep breath. {He} {act}.
- So {A} held {H}'s hand [tight|very tight]. Slowly, {he} {act}.
- {A} [thought about it|waited for a while|closed {his} eyes for a moment]. Then {he} {act}.

- {see}.
- {see}. "[Oh|Wow|Look]!" said {A}.
- {see}. It was not [bad|scary] at all!

?
- "I did it!" {he} [cried|shouted]. "I am not afraid anymore!"
- {A} began to laugh. "[It is fun|It is not so bad|I like it]!" {he} said.
- "You see?" said {H}. "You are very brave."
- {A} was proud of {himself}, and {H} was proud of {him} too.

- From that day on, {A} {now}.
- After that, {he} {now}, and {fear} did not scare {him} anymore.
- {A} still felt a little scared sometimes, but {he} {now}.


== gift child
case: thing=cake; verb=bake; mishap=dropped all the eggs on the floor; fix=got new eggs from the farm; end=The cake smelled sweet and came out golden brown
case: thing=cake; verb=bake; mishap=took salt and not sugar; fix=threw it away and began again with sugar; end=The new cake was soft and sweet
case: thing=card; verb=make; mishap=spilled the paint all over it; fix=turned the spots into little flowers; end=Now the card was prettier than before
case: thing=pot of soup; verb=cook; mishap=found that there were no carrots left; fix=ran to the garden and dug some up; end=The soup was hot and good
case: thing=scarf; verb=knit; mishap=saw that the cat had played with the wool; fix=rolled up the wool again and gave the cat a string; end=The scarf was long and warm
case: thing=picture; verb=paint; mishap=had no blue left for the sky; fix=painted a red sky with a big sun; end=It looked just like a summer evening
case: thing=pie; verb=bake; mishap=left it in the oven too long, and it burned; fix=picked more apples and tried again; end=This time, the pie was perfect
case: thing=basket of flowers; verb=make; mishap=saw a goat eat every flower; fix=went up the hill and picked new ones; end=The basket was full of red and yellow flowers
- <intro> It was almost {his} {adult}'s birthday.
- <intro> <day>, {his} {adult} was [sick|sad|very tired], and {A} wanted to help.
- Tomorrow was a big day for {A}. It was {his} {adult}'s birthday!
- <intro> {He} loved {his} {adult} very much.

- "I will {verb} a {thing} for my {adult}," {he} said.
- {A} had an idea. "I know! I will {verb} a {thing}!"
- {He} wanted to {verb} a {thing} as a surprise.
- "What can I give?" {he} thought. Then {he} knew. {He} would {verb} a {thing}.

?
- {He} [began to work|set to work|started] [at once|early in the morning|with a smile].
- {He} worked [all morning|very hard|for a long time] and [sang a little song|did not stop once|whistled].
- {He} put on a [big|white|blue] apron and [went to work|got ready].
- {B} came to help. "[We can do it together|This will be fun|What a good idea]," {bhe} said.

- But then {he} {mishap}!
- Everything went well, until {he} {mishap}.
- Oh no! {A} {mishap}.

?
- "[Oh no, what|What] can I do now?" said {A}, and {he} felt <sad>.
- "Everything is ruined!" {he} cried.
- {A} sat down on the floor. {He} wanted to cry.
- {A} [looked at the mess|bit {his} lip] and felt <sad>.

- But {he} did not give up. {He} {fix}.
- Then {he} stood up again. {He} {fix}.
- "I will try again," {he} said. So {he} {fix}.
- {He} thought for a moment. Then {he} {fix}.

- {end}.
- {end}. {A} <smiled>.

- When {his} {adult} saw it, {ahe} [laughed with joy|had tears of joy|could not believe it].
- "Did you {verb} this for me?" asked {his} {adult}. "It is [wonderful|beautiful|the best gift of all]!"
- "Surprise!" [cried|shouted] {A}, and {his} {adult} [hugged {him}|gave {him} a kiss].

?
- It was [a day that they never forgot|the best day of the whole year].
- They sat together and [talked|laughed] until <until>.
- "[You made it with love|You made it all by yourself|You did not give up]," said {his} {adult}, "and that is what I like best."
- {A} went to bed tired but <glad>.


== learn child
case: skill=ride a bike; fail=fell into a bush; fail2=hit the fence; advice=Look ahead, not down at your feet; win=rode all the way down the road
case: skill=swim; fail=got water in {his} nose; fail2=went under like a stone; advice=Kick your legs like a frog; win=swam from one side of the pool to the other
case: skill=tie {his} shoes; fail=made a big knot; fail2=tied both shoes together; advice=Make two ears like a rabbit, and cross them; win=tied both shoes without any help
case: skill=whistle; fail=blew, but there was only air; fail2=spat on {his} own shirt; advice=Make your mouth small and round; win=whistled loud and clear like a bird
case: skill=skate; fail=sat down hard on the ice; fail2=slid into the snow; advice=Bend your knees and push; win=went around the whole pond without a fall
case: skill=skip with a rope; fail=got the rope around {his} feet; fail2=tripped after one jump; advice=Listen to the rope and jump when it hits the ground; win=jumped twenty times in a row
case: skill=read; fail=mixed up all the letters; fail2=read the same line three times; advice=Say each letter slowly, one after the other; win=read a whole page out loud
case: skill=play the drum; fail=dropped the stick; fail2=hit {his} own thumb; advice=Count to four, again and again; win=played a whole song
- <intro> {He} wanted to learn how to {skill}.
- {A} was [five|six|seven] years old, and {he} could not {skill} yet.
- <intro> All {his} friends could {skill}, but {A} could not.

- <day>, {he} tried very hard, but {he} {fail}.
- <day>, {he} tried for the first time. {He} {fail}.
- "It looks easy," {he} said. But {he} {fail}.

?
- {He} tried again and {fail2}.
- The second time, {he} {fail2}. [Ouch!|That was not good.|Some children laughed.]
- {He} tried once more. This time, {he} {fail2}.

?
- "I will never learn it!" {he} cried.
- "It is too hard," said {A}, and {he} [sat down in the grass|kicked a stone|wanted to give up].
- {A} felt <sad>. "I give up," {he} said.
- {He} was so [angry|upset] that {he} almost cried.

- {CHintro} saw it. "{advice}," said {H}.
- "[Do not give up|It takes time|Nobody can do it at once]," said {Hintro}. "{advice}."
- {CHintro} said, "I could not do it at first. {advice}."

?
- So {A} practiced [every day|each morning|after school] for [a week|two weeks|many days].
- {A} tried again. And again. And again.
- {A} nodded. {He} tried [ten times|all afternoon|one more time], slowly and with care.

- Then, [one day|all at once|at last], {he} {win}!
- And [suddenly|then|at the end of the day], {he} {win}!
- On [Friday|Monday|Saturday], {he} {win}!

?
- "Look at me! I can do it!" {he} shouted.
- "I did it!" cried {A}. {CH} [cheered|clapped].
- Everyone [clapped|cheered], and {A} <smiled>.

- Now {he} could {skill}, and {he} [did it every day|wanted to do nothing else].
- "You see," said {H}, "you only have to keep trying."
- That night, {he} [dreamed about it|fell asleep with a smile|was too happy to sleep].
- A week later, {A} showed the other children how to do it.


== truth child
case: thing=vase; place2=on the table; how=ran through the house; sound=Crash
case: thing=window; place2=of the kitchen; how=kicked a ball too hard; sound=Crash
case: thing=blue cup; place2=on the shelf; how=played with a stick in the kitchen; sound=Clink
case: thing=lamp; place2=next to the sofa; how=jumped on the sofa; sound=Bang
case: thing=flower pot; place2=by the door; how=raced around the corner; sound=Smash
case: thing=mirror; place2=in the hall; how=threw a ball inside; sound=Crash
case: thing=clock; place2=on the wall; how=danced with a broom; sound=Bang
- <intro>
- <intro> {He} was always in a hurry.

- <day>, {A} broke the {thing} {place2}, because {he} {how}.
- <day>, {he} {how}. {sound}! The {thing} {place2} broke.
- <day>, {A} {how}, and the {thing} {place2} [broke into pieces|fell to pieces]. {sound}!
- <day>, {his} {adult} said, "[Please be careful|Do not play inside]." But {A} {how}. {sound}! The {thing} {place2} was broken.

?
- {A} was scared. {He} hid the pieces [under the bed|in a box|behind the door|under the rug].
- "Oh no," {he} thought. "[They will be so angry|Now I am in trouble|I should have been more careful]!"
- Nobody had seen it. {A} ran to {his} room and closed the door.
- {He} stood very still. {His} face was hot.

- When {his} {adult} came, {A} said, "[The cat|The wind] broke the {thing}."
- "Who broke the {thing}?" asked {his} {adult}. "[The cat did it|It was the wind|I do not know]," said {A}.
- When {his} {adult} asked about the {thing}, {A} said, "It was [the cat|the wind|not me]."
- "Did you see what happened to the {thing}?" asked {his} {adult}. {A} shook {his} head.

?
- But {his} [stomach|heart] felt heavy, and {he} could not [eat|play|sleep].
- All day, {he} felt bad. {He} did not want to [play|eat|sing].
- That night, {he} lay in bed and thought about the {thing}.
- {He} knew that it was not right to tell a lie.

- At last, {he} went to {his} {adult} and said, "It was me. I broke the {thing}. I am [so |very |]sorry."
- Then {A} turned red. "I have to tell you something," {he} said. "I broke the {thing}."
- In the morning, {he} told the truth. "I {how}," {he} said, "and the {thing} broke."

- {His} {adult} was quiet for a moment. "Thank you for telling the truth," said {his} {adult}.
- "I am glad that you told me," said {his} {adult}. "A {thing} is only a thing."
- "[That was brave|It is not easy to say that]," said {his} {adult}, and gave {him} a hug.

?
- Together they [cleaned up the pieces|put the pieces together with glue|went to buy a new {thing}].
- {A} paid for a new {thing} with {his} own coins.
- {A} helped to clean up, and soon the floor was [clean|safe] again.

- {A} felt [much better|light as a feather]. From then on, {he} always told the truth.
- {He} never forgot that day. The truth is hard to say, but it makes the heart light.
- {He} slept well that night, because {he} had nothing to hide.
- After that, {he} [played outside|was much more careful|walked and did not run].


== rain child
case: plan=have a picnic; bring=a basket of food; instead=spread a blanket on the floor and ate sandwiches there; like=a picnic with no ants
case: plan=go to the zoo; bring={his} red hat; instead=made lions and monkeys out of paper; like=a zoo in the living room
case: plan=go to the beach; bring=a towel and a bucket; instead=filled the tub and sailed paper boats; like=a sea inside the house
case: plan=go camping; bring=a tent and a lamp; instead=made a tent out of chairs and blankets; like=a camp under the table
case: plan=play soccer; bring={his} new ball; instead=rolled up socks and played in the hall; like=a game for the whole family
case: plan=go to the fair; bring=three shiny coins; instead=made a little fair with games and prizes; like=a fair for two
case: plan=fly a kite; bring={his} yellow kite; instead=hung the kite from the lamp and told stories under it; like=a sky in the bedroom
- <intro> All week, {he} had waited to {plan} with {B}.
- {A} and {B} were friends. They wanted to {plan} on Saturday.
- "Tomorrow we will {plan}!" said {A} to {B}.[ They could not wait.| They were very happy.|]

?
- In the morning, {A} got up early and packed {bring}.
- {A} put {bring} by the door and [sang a song|put on {his} shoes].
- {B} came early, and {A} was ready with {bring}.

- But then the sky turned [gray|black|dark], and it began to rain.
- Then they heard it on the roof. Drip, drop, drip, drop. It was raining!
- But outside, [it rained and rained|big drops fell from the sky|the wind blew and the rain came down].

?
- "Oh no," said {B}. "Now we cannot {plan}."
- {A} [looked out of the window|pressed {his} nose to the window] and felt <sad>.
- "Rain, rain, go away!" [cried|sang] {A}. But the rain did not go away.
- They waited and waited, but the rain did not stop.

- Then {A} had an idea. "We can do it here!" {he} said.
- "Wait," said {his} {adult}. "Who needs the sun? Look around you."
- "I know what we can do," said {A}. "[Come with me|Help me|Let us make our own fun]!"

- They {instead}.
- So they {instead}. [They laughed a lot.|It was a little messy.|Even {his} {adult} joined in.]
- First they looked for [things|what they needed] in every room. Then they {instead}.

- It was {like}!
- "It is {like}!" said {B}, and [they both laughed|{A} <smiled>].
- "This is even better," said {A}. "It is {like}."

?
- When the rain stopped, they did not even [see|notice] it.
- Later, the sun came out, and there was a [big|bright] rainbow over the houses.
- "I hope it rains again tomorrow," said {B}.
- In the evening, {A} said, "That was the best rainy day ever."


== newfriend child
game: hide and seek | catch | tag | pirates | jump rope | hopscotch
- {A} was new in [town|school|the village]. {He} did not know anyone.
- <intro> {He} had just moved to a new town, and {he} had no friends yet.
- <intro> On {his} first day at the new school, {he} felt very small.

- <day>, {he} sat alone [on a bench|under a tree|on the steps|by the wall] and watched the others play {game}.
- The other children played {game}, but nobody asked {him} to join.
- <day>, {he} went to {place}. There was a group of children, and they were playing {game}.

?
- "Maybe they do not like me," {he} thought.
- {He} wanted to play too, but {he} was too shy to ask.
- {A} looked at {his} shoes and felt <sad>.
- {He} [held {his} bag tight|drew lines in the sand] and said nothing.

- Then a [{bkind}|<trait> {bkind}|{bkind} with a big smile] came over. "Hello, I am {B}," {bhe} said. "What is your name?"
- Then a ball rolled to {his} feet, and a {bkind} ran after it. "Hi!" said the {bkind}. "I am {B}."
- A {bkind} named {B} saw {him}. {bHe} walked over and sat down next to {him}.

?
- "I am {A}," {he} said in a [small|soft|shy] voice.
- {A} [looked up|turned red]. "My name is {A}," {he} said.
- "I do not know how to play {game}," said {A}.

- "Do you want to play {game} with us?" asked {B}.
- "Come and play with us," said {B}. "We need one more for {game}."
- {B} held out {bhis} hand. "Come on! I will show you how we play {game}."
- {B} shared {bhis} [apple|sandwich|cookies] with {A}, and soon they talked about everything.

?
- {A} <smiled> and [ran along|jumped up|took {bhis} hand].
- Soon {A} was running and laughing with the others.
- They played {game} all [morning|afternoon], and {A} was not shy anymore.

?
- When the bell rang, {B} said, "[See you tomorrow|Sit next to me|Let us be friends]!"
- "Will you come back tomorrow?" asked {B}. "Yes!" said {A}.
- At home, {A} told {his} {adult}, "I have a friend now. {bHis} name is {B}."
- From that day on, {A} and {B} [walked to school together|played together every day|were best friends].

- {A} was not alone anymore.
- One kind word can make a friend.
- Later, when a new [boy|girl] came, {A} was the first to say hello.
- That night, {A} was <glad> and could not wait for the next day.


== lostbaby any
case: baby=duckling; a1=cow; s1=Moo; a2=pig; s2=Oink; mother=duck; place3=pond; sign=yellow feet
case: baby=chick; a1=horse; s1=Neigh; a2=sheep; s2=Baa; mother=hen; place3=barn; sign=brown wings
case: baby=fawn; a1=owl; s1=Hoo; a2=bear; s2=Grr; mother=deer; place3=old oak tree; sign=long legs
case: baby=kitten; a1=dog; s1=Woof; a2=goose; s2=Honk; mother=cat; place3=kitchen door; sign=soft gray fur
case: baby=lamb; a1=goat; s1=Meh; a2=crow; s2=Caw; mother=sheep; place3=green hill; sign=curly white wool
case: baby=bunny; a1=frog; s1=Croak; a2=mouse; s2=Squeak; mother=rabbit; place3=hole in the meadow; sign=long ears
case: baby=owlet; a1=bat; s1=Eek; a2=fox; s2=Yip; mother=owl; place3=tallest tree; sign=big round eyes
- Once upon a time, a little {baby} named {C} [went for a walk alone|ran after a butterfly|followed a shiny bug].
- Once there was a tiny {baby} named {C}. {cHe} had a kind mother and [three brothers|many sisters|two brothers].
- {C} was a curious little {baby}. [One morning|One day], {che} went farther than ever before.

- Soon {che} was lost and could not see {chis} mother anymore.
- When {che} looked back, {chis} mother was gone.
- {cHe} looked left and right. [Everything was strange.|Nobody was there.] "Where is my mother?" {che} asked.

- {cHe} met a [big |old |]{a1}. "Are you my mother?" asked {C}. "{s1}, no," said the {a1}. "I am a {a1}."
- {cHe} asked a [big |old |]{a1}, but the {a1} only said, "{s1}!"
- First {che} asked a [big |old |]{a1}. "{s1}," said the {a1}. "I have not seen her."
- A {a1} [sat|stood] by the path. "Have you seen my mother?" asked {C}. "{s1}! No, little one," said the {a1}.

?
- Then {che} met a [fat |sleepy |]{a2}. "{s2}! I am not your mother," said the {a2}, "but [keep looking|do not give up]."
- {cHe} asked a [fat |sleepy |]{a2}, but the {a2} only said, "{s2}!"
- Next came a [fat |sleepy |]{a2}. "{s2}! What does she look like?" asked the {a2}. "She has {sign}," said {C}.
- {cHe} walked on and asked a [fat |sleepy |]{a2}. "{s2}," said the {a2}. "Try the {place3}."

?
- It was getting dark, and {C} was [cold|hungry|tired]. {cHe} began to cry.
- {cHis} feet hurt, and a tear ran down {chis} face.
- "I want to go home," said {C} [in a tiny voice|very softly|and sat down].

?
- The wind blew, and the trees made strange sounds.
- A star came out, and {C} made a wish.

- {A}, a <trait> {kind}, heard {chim}. "I saw a {mother} by the {place3}," {he} said. "Come with me."
- A <trait> {kind} named {A} [found {chim}|saw {chim}|came by] and took {chim} to the {place3}.
- A {kind} named {A} picked {chim} up. "I know where your mother is," said {A}, and carried {chim} to the {place3}.
- "Do not cry," said {A}, a {kind} who was walking by. "A {mother} with {sign}? I saw her by the {place3}!"

- By the {place3} stood a {mother} with {sign}. "{C}!" she cried. "There you are!"
- And who was there? It was {chis} mother!
- {cHis} mother was already there and [called {chis} name|ran to {chim}|was so happy].
- And there was {chis} mother, with her {sign}. She had looked for {chim} [all day|everywhere].
- "Mother!" cried {C}, and ran as fast as {che} could. The {mother} [hugged {chim} close|kissed {chim} again and again].

- From that day on, {C} always stayed close to {chis} mother.
- "Thank you, {A}," said the {mother}. "[You are a good friend|You have a kind heart]."
- That night, {C} slept [warm and safe|without a care] next to {chis} mother.
- "I will never run away again," said {C}, and the {mother} smiled.


== seed child
case: plant=sunflower; result=a sunflower, taller than {A}, with a face like the sun
case: plant=pumpkin; result=a pumpkin so big that {he} could sit on it
case: plant=bean; result=a green bean plant that climbed up to the window
case: plant=apple tree; result=a little tree with two green leaves
case: plant=rose; result=a red rose that smelled sweet
case: plant=strawberry; result=ten red strawberries, sweet as sugar
case: plant=carrot; result=a carrot as long as {his} arm
- <intro> <day>, {he} found a [tiny|small|brown] seed [in {his} pocket|on the path|in the kitchen].
- <intro> <day>, {his} {adult} gave {him} a [tiny|small|brown] seed.
- {A} got a seed at school. "It will be a {plant}," said the teacher.

- {He} dug a hole in the garden, put the seed in, and [gave it some water|covered it with soil].
- {He} put the seed into a [clay|red|blue] pot and set it [by the window|in the sun].
- {A} planted the seed [behind the house|next to the fence|under the window] and [watered it|sang a song to it].

- The next day, {he} ran to look. There was nothing.
- {He} looked every morning, but there was only [brown soil|dirt].
- "Grow, little seed!" {he} said. But nothing happened.

?
- "[Why does it not grow|Is it broken|Is it asleep]?" asked {A}.
- "It will never grow," said {A}, and {he} felt <sad>.
- "Your seed is dead," said {his} friend {B}. {A} did not want to [believe it|hear that].
- {He} wanted to dig it up and look.

?
- "[Be patient|Wait a little longer|Good things take time]," said {his} {adult}. "A seed needs sun, water and time."
- "[It is busy under the ground|It has to wake up first]," said {his} {adult}. "Just keep giving it water."

- So {A} waited. {He} watered it every day, in sun and in wind.
- {A} gave it water each [morning|evening] and pulled out the weeds.
- One week went by, and then another. {A} did not forget the seed.
- When it was cold, {A} covered the spot with straw.

?
- Then, one [spring|bright|quiet] morning, {he} saw a tiny green [leaf|dot|tip]!
- And one day, something green [came out of|pushed up through] the soil.
- "Look! Look!" {he} shouted one day. A small green leaf was there.

- It grew and grew, and in the end it was {result}.
- By the end of the summer, {A} had {result}.
- Rain fell and the sun shone, and soon there was {result}.

- "You took good care of it," said {his} {adult}, and {A} was very proud.
- {A} <smiled>. Now {he} knew how to wait.
- {He} [showed it to everyone|drew a picture of it|told the whole school about it].
- {A} kept a new seed for next year.


== greedy animal
case: eat=berries; where=a bush full of red berries; belly=round as a ball
case: eat=pears; where=a tree full of yellow pears; belly=heavy as a stone
case: eat=nuts; where=a big heap of nuts; belly=hard as a drum
case: eat=apples; where=a tree full of ripe apples; belly=round as a apple
case: eat=cookies; where=a basket of cookies on a stone; belly=fat as a pumpkin
case: eat=carrots; where=a garden full of carrots; belly=tight as a drum
case: eat=cherries; where=a cherry tree behind the hill; belly=big as a melon
- <intro> {He} loved to eat {eat}.
- <intro> {He} was always hungry.
- {A} the {kind} loved {eat} more than anything in the forest.

- <day>, {he} found {where}. "All for me!" {he} [said|cried].
- <day>, {he} walked {inplace} and came upon {where}.
- <day>, {he} could smell something sweet. It was {where}!

- {B} the {bkind} came by. "May I have some {eat}?" {bhe} asked.
- "Those {eat} look good," said {B} the {bkind}. "Will you give me some?"
- When {B} the {bkind} asked for some {eat}, {A} [turned around|did not listen].
- Soon {B}, a hungry little {bkind}, came along. "Please give me a few {eat}," {bhe} said.

- "No," said {A}. "[They are all mine|I found them|Go away]!"
- "Go and find your own food," said {A}, and turned {his} back.
- {A} shook {his} head and ate faster.

- {He} ate and ate until {his} belly was as {belly}.
- {He} ate all day and did not stop. At the end, {his} belly was as {belly}.
- {He} did not share. {He} ate everything up, and {his} belly was as {belly}.

?
- "Ouch! My belly hurts!" {he} cried.
- Then {he} lay down in the grass. {He} felt sick, and {he} could not move.
- On the way home, {he} got stuck [between two trees|in a hole in the fence|in {his} own door].

- {B} heard {him}. {bHe} [brought {him} some warm tea|came to help {him}|sat with {him} until {he} felt better].
- "Poor {A}," said {B}. {bHe} was not angry. {bHe} helped {him} home and put {him} to bed.
- But {B} was kind and helped {him} [home|to lie down|to get up].
- Who came to help? It was {B}, and {bhe} was kind to {him}.

?
- "I am sorry," said {A}. "I should have shared with you."
- {A} felt [bad|ashamed]. "You are kind, and I was not," {he} said.
- "Why are you so nice to me?" asked {A}. "Because we are neighbors," said {B}.

- The next time {A} found {eat}, {he} gave half of them to {B}.
- The next day, they found {eat} together, and they shared them all.
- From then on, {A} always asked, "Would you like some too?"
- "Food is better with a friend," said {A}, and {B} <smiled>.


== helper child grandparent
case: task=rake the leaves; mess=The yard was full of red and yellow leaves; work=raked the leaves into a big pile; fun=jumped into the pile
case: task=carry the wood; mess=There was a big heap of wood outside; work=carried the wood to the house, one piece at a time; fun=sat by the warm fire
case: task=wash the dog; mess=The dog had rolled in the mud; work=washed the dog with soap and warm water; fun=got all wet, because the dog shook himself
case: task=feed the hens; mess=The hens were hungry and loud; work=gave the hens corn and fresh water; fun=found six brown eggs
case: task=pick the apples; mess=The tree was full of ripe apples; work=filled three baskets with apples; fun=ate the sweetest apple of all
case: task=clean the shed; mess=The shed was full of dust and old boxes; work=swept the floor and put the boxes away; fun=found a old wooden horse in a box
case: task=paint the fence; mess=The fence was old and gray; work=painted the fence white from end to end; fun=had white paint on {his} nose
- <intro> <day>, {he} [went to see|visited] {his} {adult}.
- {A} loved to visit {his} {adult}, who lived [near the church|on a hill|by the lake|down the road].
- <intro> On Saturdays, {he} [stayed|was] with {his} {adult}.

- {mess}. "I have to {task}," said {his} {adult}, "but my back hurts."
- {mess}. {His} {adult} looked very tired.
- "It is time to {task}," said {his} {adult}. {mess}.

- "I can do it!" said {A}. "[I am strong|I am big now|Let me help]."
- "Let me help you," said {A}, and {he} rolled up {his} sleeves.
- {A} wanted to play outside. But then {he} thought, "I should help first."

- It was a lot of work. {A} {work}.
- So {A} {work}.
- {He} got started at once. {He} {work}.

?
- It took [all morning|a long time|two hours], and {his} arms were tired.
- After a while, {he} wanted to stop, but {he} [did not|kept going].
- {B} came by and asked, "Do you want to play?" "[Soon|Later]," said {A}. "First I have to finish this."
- {He} sang a song while {he} worked, and the time went by fast.

?
- When {he} was done, {he} {fun}.
- In the end, {he} {fun}.
- And then {he} {fun}! {His} {adult} <smiled>.

?
- "Thank you, {A}," said {his} {adult}. "[You are a great help|What would I do without you|I could not have done it alone]."
- {His} {adult} gave {him} [hot milk|a slice of cake|warm bread with honey|a big cookie] and a hug.

- {A} <went> home with a full heart.
- "Can I come back next week?" asked {A}.
- It feels good to help, {A} thought.
- That evening, they sat together on the porch and watched the stars.


== coins child
item: TOYS
- <intro> {He} saw a {adj} {item} in the window of a shop.
- <intro> More than anything, {he} wanted a {adj} {item}.
- There was a {adj} {item} in the toy shop, and {A} looked at it every day.

- It cost ten coins, but {A} had only [one|two|three].
- It cost ten coins. {A} had only [one|two|three].
- "You need ten coins," said the man in the shop. {A} had only [one|two|three].

- So {he} helped {his} {adult} [in the garden|in the kitchen|with the wash] and got a coin each [week|Sunday].
- {He} [swept the steps|walked the dog|sold lemonade|carried bags] for the neighbors and put every coin in a [jar|tin|box].
- {He} saved every coin. [It took all summer.|It took a long, long time.|Weeks went by.]

- When {he} had ten coins, {he} <went> to the shop.
- At last, {he} had ten coins! {He} ran to the shop.
- Then the day came. {He} had ten coins in {his} hand, and {he} <went> to the shop.

- On the way, {he} met {his} friend {B}, who was crying.
- Then {he} met {his} friend {B}, who looked <sad>.
- On the way, {he} met {his} friend {B}. {bHe} was crying.
- But in front of the shop, {he} saw {his} friend {B}. {bHe} looked <sad>.
- Outside the shop sat {his} friend {B}, with tears in {bhis} eyes.

- "I lost the money for [the bread|my mother's medicine|the milk]," said {B}.
- "My [cat|dog] is sick," said {B}, "and we cannot pay the doctor."
- "I broke my [father's cup|brother's toy]," said {B}, "and I have no money for a new one."

?
- {A} looked at the {item} in the window. Then {he} looked at {B}.
- {A} thought about the {item} for a long time.
- It was very hard. The {item} was so close.

- {A} gave all ten coins to {B}.
- "Here," {he} said, and gave {bhim} the ten coins.
- {He} opened {his} hand. "Take my coins," {he} said. "[You need them more|A friend is worth more than a {item}]."
- {A} put the coins into {bhis} hand. "This is for you," {he} said.

?
- {B} could not believe it. "Thank you!" {bhe} said, and hugged {him}.
- {B} dried {bhis} tears. "I will never forget this," {bhe} said.

- The man in the shop had seen it all. The next day, he gave {A} the {item} [for free|as a gift].
- On {his} birthday, {A} opened a box from {B}. Inside was the {adj} {item}!
- {A} went home with no {item} and no coins, but {he} was <glad>.
- The next week, {B} came with a [cake|drawing|basket of <food>] for {A}. {A} liked it more than any {item}.


== sleep child animal
- <intro> It was late, but {A} could not sleep.
- The moon was up, and everyone was in bed. Only {A} was still awake.
- <intro> One night, {he} [turned left and right|lay in bed with open eyes] and could not sleep.

?
- {He} counted [sheep|stars|to one hundred], but it did not help.
- {He} tried lying on {his} back. {He} tried lying on {his} side. Nothing worked.
- {His} pillow was too [hot|flat|hard], and {his} blanket was too [short|warm|thick].
- The clock said tick, tock, tick, tock.

?
- "I cannot sleep," {he} said to {his} {adult}.
- {He} got up and <went> to {his} {adult}. "I am not tired at all," {he} said.
- "[Are you awake|Can you hear me]?" {he} called, and {his} {adult} came.

- {His} {adult} brought {him} a cup of warm milk and [sat with {him}|told {him} a story|read to {him}].
- {His} {adult} sat on the bed and sang a [soft|slow|old] song about [the sea|a little boat|the moon|a sleepy bear].
- "Let me tell you a story," said {his} {adult}, "about a [cat who lived on the moon|boat that could fly|king who lost his shoes|fish who wanted to dance]."
- {His} {adult} opened the window. "Listen," said {his} {adult}. "[The wind is singing|The owl says good night|Even the trees are asleep]."

?
- {A} listened. [The world was quiet.|{His} eyes grew heavy.|{He} could hear the rain.]
- {A} lay very still and [listened to the soft voice|looked at the moon].
- {A} held {his} [teddy bear|blanket|pillow] and closed one eye. Then {he} closed the other.

?
- Outside, a [cat|owl|mouse] walked over the roof.
- One by one, the stars came out.

?
- "What if I have a bad dream?" asked {A}. "Then I will be right here," said {his} {adult}.
- "Will you stay?" asked {A}. "I will stay until you sleep," said {his} {adult}.
- "I am not tired," said {A}, and then {he} [yawned|gave a big yawn].

?
- Soon {A} was fast asleep.
- Before long, {A} was [fast asleep|asleep].
- {His} breath grew slow, and {he} fell asleep with a smile.

- {He} dreamed of [a garden full of butterflies|a ship with white sails|a mountain of ice cream|a train to the moon|a friendly whale].
- {His} {adult} kissed {him} and put out the light. "Good night, {A}," {ahe} said.
- In the morning, the sun woke {him} up, and {he} was ready for a new day.


== build child animal
case: thing=sand castle; where=at the beach; mat=sand and shells; ruin=a big wave came and washed it away; better=farther from the water
case: thing=tower; where=in the big room; mat=wooden blocks; ruin=the cat jumped on it, and it fell down; better=with a wide base
case: thing=snowman; where=in the yard; mat=white snow; ruin=the warm sun came out, and it melted; better=in the shade of the trees
case: thing=tree house; where=in the old oak; mat=boards and rope; ruin=a storm came up and broke it; better=with strong nails
case: thing=boat; where=by the river; mat=sticks and leaves; ruin=it turned over and sank; better=with a flat bottom
case: thing=little hut; where=in the forest; mat=branches; ruin=the wind blew it down; better=with big stones on each side
case: thing=dam; where=in the brook; mat=stones and mud; ruin=the water broke right through it; better=with clay in every crack
- <intro> {He} loved to build things.
- {A} and {B} were friends who liked to build things.
- <intro> <day>, {he} had a big plan.

- <day>, {A} and {B} built a {thing} {where}. They used {mat}.
- "Let us build a {thing}!" said {A} to {his} friend {B}. So they got {mat} and went to work {where}.
- {A} wanted to build the best {thing} in the world. {B} helped {him} to bring {mat}.

?
- They worked [all day|for hours|until their hands hurt], and the {thing} was [beautiful|almost done|really big].
- It was hard work, but it looked [great|wonderful|better and better].
- {B} [sang|counted], and {A} put everything in its place.

- But then {ruin}.
- They stepped back to look at it. At that moment, {ruin}!
- "It is done!" said {A}. But [just then|the next day], {ruin}.

?
- "All our work is gone!" cried {B}.
- {A} [stamped {his} foot|threw down {his} hat]. "I will never build anything again!" {he} said.
- They looked at what was left. {B} was <sad>, and {A} did not say a word.
- {A} began to cry. "Our {thing}!" {he} said.

- "[We can build it again|Let us try again|We know how to do it now]," said {B}, "but this time {better}."
- {His} {adult} came to look. "What did you learn?" asked {his} {adult}. {A} thought. "We should build it {better}," {he} said.
- Then {A} had an idea. "We will make a new one," {he} said, "{better}."

?
- So they began again. This time, they [took their time|worked more slowly|helped each other even more].
- They got more {mat} and [started over|went back to work].
- Step by step, they built a new {thing}, {better}.

- The new {thing} was even [better|bigger|stronger] than the old one.
- And this time, nothing happened to it.
- "[Hooray|We did it|Look at that]!" they shouted. The new {thing} was the best of all.

- Everyone came to see it, and {A} and {B} were very proud.
- They [sat down next to it and ate <food>|played there until <until>|put a little flag on it].
- "I am glad that we did not give up," said {A}.
- "Next time," said {B}, "we will build a [bridge|ship|castle|rocket]!"


== noise child animal adult
case: sound=Scratch, scratch; guess=a monster with long claws; truth=a kitten that wanted to come in; end=gave the kitten some milk
case: sound=Tap, tap, tap; guess=a ghost; truth=a branch that knocked on the window; end=laughed at the silly branch
case: sound=Hoo, hoo; guess=a ghost; truth=a owl on the roof; end=waved at the owl
case: sound=Crunch, crunch; guess=a giant; truth=a mouse with a piece of bread; end=gave the mouse a little cheese
case: sound=Drip, drop; guess=a sea monster; truth=a pipe that was not closed; end=put a bucket under it
case: sound=Bump, bump; guess=a bear; truth=a hedgehog that ran against the door; end=put out some water for the hedgehog
case: sound=Squeak, squeak; guess=a witch; truth=the old garden gate in the wind; end=closed the gate
- <intro> One [dark|cold|windy] night, {he} heard a sound. {sound}!
- One night, {A} woke up. {sound}! What was that?
- It was a [dark|stormy|quiet] night. {A} was in bed when it began. {sound}!

- "It must be {guess}," {he} thought, and pulled the blanket over {his} head.
- {A} sat up in bed. "Is it {guess}?" {he} said [softly|to {himself}].
- {His} heart [beat fast|jumped]. What if it was {guess}?

?
- {sound}! There it was again.
- {He} waited, but the sound did not stop. {sound}!
- Then it was quiet. And then, {sound}!

- {He} called {Hintro}. "There is {guess} outside!" {he} [cried|said].
- {He} [called|ran to|woke up] {Hintro}.
- {He} woke up {Hintro}. "Did you hear that?" {he} asked.
- "[Help|Come quickly]!" called {A}. {CHintro} came at once.

- {CH} took a lamp, and they went to look.
- "Let us go and see," said {H}. They took a [small |big |]lamp and walked on their toes.
- "Hold my hand," said {H}. Together they went [to the door|through the dark].
- {CH} was a little scared too, but they went to look.

- {A} opened the door very slowly. It was only {truth}!
- They held up the lamp and looked. It was not {guess}. It was {truth}!
- And what did they find? It was {truth}.

?
- {A} laughed until {his} belly hurt.
- "[Oh|Well]," said {A}, "that is not {guess} at all!"
- They looked at each other and [laughed|began to laugh].

- They {end} and went back to bed.
- {CHintro} {end}, and then everyone went back to sleep.
- {A} {end} and felt very brave.

?
- After that, {A} was not so scared of strange sounds.
- "Next time," {he} said, "I will look first and be scared later."
- "Good night," said {A}, and this time {he} slept until the morning.


== race animal child
prize: a golden cup | a big cake | a blue ribbon | a basket of <food> | a crown of flowers
- <intro> {He} was the fastest runner [around|of all {his} friends|in the whole land].
- {A} could run very fast, and {he} told everyone about it.
- Once upon a time, there was a big race {inplace}, and a {kind} named {A} wanted to win it.
- Nobody could run as fast as {A}, a <trait> {kind}.
- <day>, there was a race {inplace}, and {A} wanted to win it.
- Once there was a {kind} named {A} who wanted to win every race.

- The prize was {prize}.
- The winner of the [big |summer |]race would get {prize}.
- On the day of the race, everyone came to watch. The prize was {prize}.

- {His} friend {B} wanted to run too. {bHe} was not so fast, but {bhe} wanted to try.
- {B}, a [small|slow|young] {bkind}, [wanted to run|came to run] too.
- {B} was there too, a {bkind} who had practiced all [week|summer].

?
- "I will win," said {A}. "Nobody is as fast as me."
- "You are too slow, {B}," said {A} and laughed.
- "Good luck, {A}," said {B}. "[I do not need luck|You will only see my back]," said {A}.

- "One, two, three, go!" They ran [past the trees|over the bridge|up the hill] as fast as they could.
- The bell rang, and off they went. {A} was far ahead.
- Off they went, and {A} was soon far ahead of {B}.
- Everyone ran [past the trees|over the bridge|up the hill], and {A} was the first.
- "Ready, set, go!" {A} ran like the wind, and {B} was right behind {him}.

- Then {A} [tripped over a root|stepped into a hole|slipped in the mud] and hurt {his} [foot|knee|leg].
- But {A} looked back to laugh and ran right into a [bush|fence|tree]. Ouch!
- In the middle of the race, {A} fell. "Ow!" {he} cried. "I cannot get up."
- Near the end, {A} fell down and could not get up.

- {B} could have run on. But {bhe} stopped. "Are you hurt?" {bhe} asked.
- {B} saw the finish line. Then {bhe} turned around and went back to {A}.
- {B} stopped at once and ran back to {A}.
- "[Go on|Run]!" said {A}. "You can win now." "No," said {B}. "I will not leave you here."

- {bHe} helped {A} up, and they walked together, step by step.
- {bHe} put {bhis} arm around {A}. Slowly, they went on, side by side.

?
- They crossed the line at the same time, and everyone [cheered|clapped].
- They came in last, but everyone [cheered|clapped] louder than before.
- A little snail won the race, but nobody cared. They all [cheered|clapped] for {B}.

- "You are the real winner," said {A}. "I am sorry that I laughed at you."
- They shared the prize, and {A} said, "Thank you, {B}."
- They gave {B} the prize, and {A} clapped the loudest.
- From then on, {A} did not brag anymore, and {he} and {B} ran together every day.


== surprise child animal
gift: a red bike | a little puppy | a new drum | a blue kite | a big box of paints | a pair of skates | a tiny kitten
- It was {A}'s birthday. {He} woke up early and [jumped out of bed|ran to the kitchen].
- <intro> Today was {his} birthday, and {he} was very excited.
- {A} had waited for this day all year. Now it was {his} birthday at last!

- But nobody said a word about it.
- {His} {adult} only said, "Good morning," and [went to work|read a book|left the house].
- There was no cake. There were no gifts. The house was quiet.

?
- {He} went to {his} friend {B}. "Do you know what day it is?" {he} asked. "Yes," said {B}. "It is [Monday|Tuesday|Thursday]."
- {He} looked for {his} friend {B}, but {B} was [busy|not there|in a hurry].
- "Do you want to play?" {he} asked {his} friend {B}. "I am sorry," said {B}. "I have [no time|so much to do] today."

- "They all forgot," thought {A}, and {he} felt <sad>.
- {A} sat down {inplace} and [threw stones|picked at the grass|watched the clouds]. {He} felt <sad>.
- A tear fell on {his} [shoe|hand]. It was the worst birthday ever.

- In the evening, {he} walked home. The windows were dark.
- When it got dark, {he} went home slowly and opened the door.
- Later that day, {his} {adult} called, "{A}! Can you come here, please?"

- "Surprise!" shouted [everyone|all {his} friends]. The lights went on.
- Suddenly there was light everywhere. "Surprise!" everyone cried.
- "Happy birthday, {A}!" There were balloons, and there was a cake with [five|six|seven] candles.

?
- {His} friend {B} <smiled>. "We had to keep it a secret," {bhe} said.
- "Did you think that we forgot?" asked {his} {adult}. "[We never would|Never]!"
- "I made the cake," said {his} friend {B}. "That is why I had no time."

- And under the table was {gift}!
- In a big box, {he} found {gift}.
- Then they gave {him} {gift}, just what {he} had wished for.

?
- {A} laughed and cried at the same time.
- "This is the best birthday ever!" said {A}.
- They ate cake and danced until <until>.
- {A} blew out the candles. {He} did not need a wish, because {he} had everything.


== favor any
case: small=mouse; big=lion; need=had a thorn in his paw; helps=pulled out the thorn; danger=fell into the river; saves=held out his long tail and pulled the mouse out
case: small=ant; big=bird; need=could not find any seeds; helps=showed the way to a field of wheat; danger=was caught in a heavy rain; saves=lifted the ant up and flew to a dry branch
case: small=bee; big=bear; need=had a cold and could not smell; helps=brought some honey; danger=got stuck in a spider web; saves=broke the web with his big paw
case: small=frog; big=horse; need=was very thirsty; helps=showed the way to a hidden pond; danger=was chased by a snake; saves=stamped his feet until the snake went away
case: small=sparrow; big=cow; need=had flies all over her back; helps=ate up all the flies; danger=was cold in the snow; saves=let the sparrow sleep on her warm back
case: small=rabbit; big=deer; need=was caught in some vines; helps=bit through the vines; danger=was lost in the dark woods; saves=carried the rabbit home
case: small=snail; big=goose; need=had lost an egg; helps=found the egg under a leaf; danger=lay in the hot sun and could not move; saves=stood over the snail and made a cool shadow
- Once upon a time, a {big} and a {small} lived [in the same forest|near the same river|in the same valley].
- Once there was a {big} who was very [big|proud|strong]. Near by lived a tiny {small}.
- In a [green|far|quiet] valley, there lived a {big} and a {small} named {C}. {C} was small, but {che} had a [brave|big|kind] heart.

- <day>, the {big} {need}.
- <day>, the {small} saw the {big}. The {big} {need}.
- One cold day, the {big} {need} and [cried out loud|called for help|did not know what to do].

- "Can I help you?" asked the {small}.
- "Let me help you," said the {small}.
- "What is wrong?" asked the {small}. "I will do what I can."

?
- The {big} [laughed|looked down]. "You? You are so small!"
- "How can someone so small help me?" asked the {big}.
- "[Please do|Oh, please]," said the {big}. "I have asked everyone."

- The {small} went right to work and {helps}.
- So the {small} worked [all night|very hard|for a long time] and {helps}.
- The {small} said nothing and {helps}.

?
- "Thank you," said the {big}. "I will not forget this."
- The {big} was surprised. "You are small, but you are [clever|good|brave]," said the {big}.
- "One day, I will help you too," said the {big}.

- [Not long after|A week later|When the season changed|Some time later], the {small} {danger}.
- Then, one [day|evening|morning], it was the {small} who needed help. The {small} {danger}.

?
- "[Help|Help me]!" cried the {small}. The {big} heard it and came [running|at once].
- The {big} was near. "Now it is my turn," said the {big}.
- Who would help? The {big} came [quickly|right away|just in time].

- The {big} {saves}.
- "Do not be afraid," said the {big}, and {saves}.
- Without a word, the {big} {saves}.

- From that day on, the {big} and the {small} were friends.
- "Nobody is too small to be a friend," said the {big}, and they [both laughed|went home together].
- And so they learned that a good deed always comes back.
- They shared their food that evening and watched the [moon|stars] come up.


== forest animal
case: season=It was winter, and the snow was deep; ask=something to eat; store=nuts and dry berries
case: season=Snow fell for a whole week; ask=a dry place to sleep; store=warm blankets
case: season=The cold wind blew, and the pond was frozen; ask=some bread; store=bread and sweet apples
case: season=A great snow storm came over the hills; ask=a warm corner; store=soft straw
- <intro> {He} had worked all summer and had a lot of {store}.
- <intro> In {his} home, there was a big store of {store}.
- {A} the {kind} was ready for the cold. {He} had plenty of {store}.

- {season}.
- Then the bad days came. {season}.
- {season}, and nobody went outside.

- One [night|evening], there was a knock at the door. Knock, knock!
- "Who is there?" asked {A} when {he} heard a knock.
- {A} was just about to go to bed when somebody knocked.

- It was {B} the {bkind}, [cold and wet|shaking with cold|hungry and tired].
- "It is me, {B}," said a weak voice. {A} opened, and there stood a poor little {bkind}.

- "Please give me {ask}," said {B}. "I have nothing left."
- "May I come in?" asked {B}. "All I need is {ask}."
- {B} was almost too weak to speak. "Just {ask}," {bhe} said. "Please."

?
- {A} thought of {his} {store}. Was there enough for two?
- {A} did not think twice.
- "I do not have much room," said {A}, and {he} looked at {his} small home.
- {A} remembered how it felt to be cold and alone.

- "Come in, come in!" said {A}. "What is mine is yours."
- {He} opened the door wide. "You can stay as long as you like," {he} said.
- {A} gave {B} {ask} and made a place by the fire.

?
- All winter, they shared the {store} and told each other stories.
- {B} got [warm|strong] again. {bHe} could sing, and {bhe} sang for {A} every night.
- The two of them sat close together while the wind cried outside.

?
- When the spring came, {B} brought {A} [the first flowers|a basket of fresh berries|a bag of seeds].
- In the spring, {B} built a house right next door.
- When the sun came back, neither of them wanted to be alone again.

- A small home is big enough when there is a friend in it.
- And they were friends for the rest of their lives.
- "The winter was short this year," said {A}, and {B} <smiled>.
- After that, {A} never feared the winter again.
"""

def pick(rng, options):
    """One of `options`. Only `random()` is used: it is the one method that never changed between Python versions."""
    return options[int(rng.random() * len(options))]


def choices(text):
    return [part.strip(" ") for part in text.split(" | ")]


WORDS = {name: choices(text) for name, text in WORDS.items()}


class Plot:
    """One parsed plot: who plays it, what is drawn once for the whole story, and its beats."""

    def __init__(self, text):
        header, *beats = text.strip().split("\n\n")
        title, *draws = header.split("\n")
        # The first beat follows the draws without a blank line.
        first = [line for line in draws if line.startswith("- ")]
        self.cast = title.split()[2:]
        self.draws, self.cases = {}, []
        for line in draws[: len(draws) - len(first)]:
            name, value = line.split(": ", 1)
            if name == "case":
                self.cases.append(dict(part.split("=", 1) for part in value.split("; ")))
            else:
                self.draws[name] = choices(TOYS if value == "TOYS" else value)
        self.beats = []
        for lines in [first] + [beat.split("\n") for beat in beats]:
            optional = lines[0] == "?"
            self.beats.append((optional, [line[2:] for line in lines[optional:]]))


def person(rng, animal, she):
    """A name, what kind of child or animal it is, and its pronouns."""
    names = (SHE_ANIMALS if she else HE_ANIMALS) if animal else (GIRLS if she else BOYS)
    kind = pick(rng, ANIMALS) if animal else "girl" if she else "boy"
    return pick(rng, names), kind, PRONOUNS["she" if she else "he"]


def cast(rng, plot):
    """Everything that stays the same through one story."""
    kinds = [word for word in plot.cast if word in ("child", "animal")] or ["child", "animal"]
    # Children are in two stories of three, so that their names come up often.
    animal = kinds[0] == "animal" if len(kinds) == 1 else rng.random() < 0.3
    she = rng.random() < 0.5
    a, kind, (he, him, his, himself) = person(rng, animal, she)
    # The second character is of the other sex, so that "he" and "she" are never in doubt.
    b, bkind, (bhe, bhim, bhis, _) = person(rng, animal, not she)
    while bkind == kind and animal:
        bkind = pick(rng, ANIMALS)
    c, _, (che, chim, chis, _) = person(rng, True, not she)
    adult, ahe = pick(rng, ADULTS[2:] if "grandparent" in plot.cast else ADULTS)
    home = pick(rng, choices(ANIMAL_HOMES if animal else CHILD_HOMES))
    inplace = pick(rng, choices(PLACES))
    spots = choices(SPOTS)
    story = {
        "A": a, "kind": kind, "he": he, "him": him, "his": his, "himself": himself,
        "B": b, "bkind": bkind, "bhe": bhe, "bhim": bhim, "bhis": bhis,
        "C": c, "che": che, "chim": chim, "chis": chis,
        "adult": adult, "ahe": ahe, "home": home, "inplace": inplace, "place": inplace.split(" ", 1)[1],
    }  # fmt: skip
    for name in ("spot1", "spot2", "spot3"):
        story[name] = spots.pop(int(rng.random() * len(spots)))
    # The helper is a friend or one of the family.
    if "adult" in plot.cast or rng.random() < 0.5:
        story.update(H=f"{his} {adult}", Hintro=f"{his} {adult}", Hcall=adult.capitalize(), hhe=ahe)
        story["hhim"] = PRONOUNS[ahe][1]
    else:
        story.update(H=b, Hintro=f"{his} friend {b}", Hcall=b, hhe=bhe, hhim=bhim)
    for name, options in plot.draws.items():
        story[name] = pick(rng, options)
    if "item" in story:
        adjectives, story["item"] = story["item"].split(" ", 1)
        story["adj"] = pick(rng, adjectives.split(","))
    if plot.cases:
        story.update(pick(rng, plot.cases))
    for name, capital in [("he", "He"), ("his", "His"), ("bhe", "bHe"), ("bhis", "bHis"), ("che", "cHe"), ("chis", "cHis"),
                          ("home", "cap_home"), ("H", "CH"), ("Hintro", "CHintro")]:  # fmt: skip
        story[capital] = story[name][0].upper() + story[name][1:]
    return story


def expand(rng, text, story):
    """Replaces slots, word lists and choices, innermost first, until none is left."""
    pattern = re.compile(r"\{(\w+)\}|<(\w+)>|\[([^\[\]{}<>]*)\]")

    def replace(match):
        slot, words, options = match.groups()
        if slot:
            return story[slot]
        return pick(rng, WORDS[words] if words else options.split("|"))

    while pattern.search(text):
        text = pattern.sub(replace, text, count=1)
    return text


def sentences(text):
    return re.split(r"(?<=[.!?]) (?=[A-Z\"])|(?<=[.!?]\") (?=[A-Z\"])", text)


def tell(rng, plot):
    """One story: every beat in turn, then the small rules of spelling that templates cannot know."""
    story = cast(rng, plot)
    beats = [pick(rng, templates) for optional, templates in plot.beats if not optional or rng.random() < 0.4]
    told = " ".join(expand(rng, beat, story) for beat in beats)
    told = re.sub(r"\b([Aa]) (?=[aeiouAEIOU])", r"\1n ", told)
    lines = sentences(told)
    for i in range(len(lines) - 1, 0, -1):
        # "Mia was glad. Mia waved." is "Mia was glad. She waved."
        if story["B"] not in lines[i - 1] and lines[i].startswith(story["A"] + " ") and not lines[i].startswith(story["A"] + " and "):
            if lines[i - 1].startswith(story["A"] + " ") or lines[i - 1].endswith(" said " + story["A"] + "."):
                lines[i] = story["He"] + lines[i][len(story["A"]) :]
    return " ".join(lines)


def main():
    parser = argparse.ArgumentParser(description="Writes simple stories made from a grammar.")
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--bytes", type=int, default=1_050_000, help="stop at the first story that reaches this size")
    parser.add_argument("--out", default=OUT)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    plots = [Plot(text) for text in re.split(r"\n(?=== )", PLOTS.strip())]
    stories, seen, size = [], set(), 0
    while size < args.bytes:
        plot = pick(rng, plots)
        story = tell(rng, plot)
        while story in seen or len(sentences(story)) > MAX_SENTENCES:
            story = tell(rng, plot)
        seen.add(story)
        stories.append(story)
        size += len(story) + 2
    with open(args.out, "w", encoding="ascii", newline="\n") as file:
        file.write("\n\n".join(stories) + "\n")


if __name__ == "__main__":
    main()
