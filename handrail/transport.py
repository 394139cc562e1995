"""The link's three flows: acknowledged stream, newest-wins broadcast, request.

Stream: `StreamSender` on the actor, `StreamReceiver` on the learner. Broadcast: `Broadcaster` on
the learner, `Subscriber` on the actor. Request: `RequestServer` and `RequestClient`.
"""

from handrail.broadcast import Broadcaster, Subscriber
from handrail.endpoint import check_endpoint
from handrail.keys.host import HostKeys
from handrail.receive import StreamReceiver
from handrail.request import RequestClient, RequestServer
from handrail.stream import SenderStatus, StreamSender

__all__ = [
    "Broadcaster",
    "HostKeys",
    "RequestClient",
    "RequestServer",
    "SenderStatus",
    "StreamReceiver",
    "StreamSender",
    "Subscriber",
    "check_endpoint",
]
