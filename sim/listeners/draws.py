"""What a random number is drawn for. Numbers stay as they are: changing one changes every seeded result."""

from typing import Final

INTEREST: Final = 0
"""Which of the listener's interests a session follows."""
FIRST_TRACK: Final = 1
"""Which of the interest's neighbours a session starts at."""
BUDGET: Final = 2
"""Whether a listen costs the listener patience."""
RETURN: Final = 3
"""When a listener comes back."""
ACTIVITY: Final = 4
"""How often a listener comes at all."""
DRIFT: Final = 5
"""What a drifting interest moves on to."""
HIT: Final = 6
"""Whether a track becomes a hit, and when."""
AGENT: Final = 7
"""What a random agent plays."""
SHIFT: Final = 8
"""Which tracks change places, and where they go."""
