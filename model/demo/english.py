"""A little generic English, written for this project, so that the vocabulary is not lost outside its world."""

from typing import Final

GENERIC_ENGLISH: Final = """
The quick brown fox jumps over the lazy dog while the old man reads his book by the fire. People have always wanted to
know how things work, and the best way to learn is to ask questions, look for answers and try them. She said that it
would be better to wait until the morning, because the road was long and there was not enough light. When the water is
heated it becomes steam, and when it is cooled it becomes ice. The students in this school study science, history,
music, art and mathematics. A plant needs light, air, water and soil in order to grow. The earth moves around the sun
once a year, and the moon moves around the earth about once a month. Which of the following best describes the result
of the experiment? An object at rest stays at rest unless a force acts on it. He could not believe what he had seen,
so he went back to the house and told everyone about it. They were going to travel by train, but the station was
closed. It is important to eat well, to sleep enough and to take some exercise every day. The government said that the
new law would be passed next week. Most of the energy that we use comes from the sun, from wind, from rivers or from
burning oil and gas. Scientists think that the first living things were very simple cells. If you want to write a
program you should first think about what it should do, then write a test, and only then write the code. Where did the
king and the queen live in those days? There are many different languages in the world, and each of them has its own
words for love, family, work and home. This computer, which was made in a small factory, has been used for thirty
years. Please do not forget to close the window before you leave. Thank you for your letter; we will answer as soon as
possible. What would happen if all the bees were gone? The doctor gave her some medicine and told her to drink more
water. During the war many families lost their houses, and after it they had to build them again. A number is prime if
it has no divisors except one and itself. The temperature of the air changes with the height above the sea. One of the
most famous painters of his time lived in this street, although nobody knew his name. Electricity flows through
metal wires more easily than through wood or plastic. Animals that eat only plants are called herbivores, and those
that eat other animals are called carnivores. You must be very careful with fire. It was the best of times, and it was
the worst of times, as the writer said. Between the mountains and the coast there is a wide valley with farms. How
long does it take to walk from here to the river? Every language model can be wrong, and this one knows very little.
import os, sys; from typing import List; def main(): for i in range(10): if x is None: raise ValueError; else: print(
f"{i}: {x}"); while True: break; try: pass; except Exception as error: return False; class Point: self.x = 0; lambda
key, value: key in values and not isinstance(value, str) or value >= 0; yield item; with open(path) as file:
"""
