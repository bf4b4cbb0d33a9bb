"""Live conversations: turn events on the token stream, duplex sessions, and a server (the ``live`` extra).

>>> import speechtok
>>> from speechtok.live import DuplexSession
>>> session = DuplexSession(speechtok.load())
"""

from speechtok.live.conversation import Turn as Turn
from speechtok.live.echo import EchoCanceller as EchoCanceller
from speechtok.live.playback import Heard as Heard
from speechtok.live.playback import Interruption as Interruption
from speechtok.live.playback import Utterance as Utterance
from speechtok.live.session import DuplexSession as DuplexSession
from speechtok.live.session import Step as Step
from speechtok.live.turns import EnergyDetector as EnergyDetector
from speechtok.live.turns import FrameDetector as FrameDetector
from speechtok.live.turns import FrameProbabilities as FrameProbabilities
from speechtok.live.turns import TurnEvent as TurnEvent
from speechtok.live.turns import TurnEvents as TurnEvents
from speechtok.live.turns import TurnPolicy as TurnPolicy
