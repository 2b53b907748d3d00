"""Messages captured between a Consul 1.8.7 client and server, and Structs that describe them."""

import msgspec

R1_HEADER = bytes.fromhex("82a353657101ad536572766963654d6574686f64b7436174616c6f672e4e6f6465536572766963654c697374")
R1_BODY = bytes.fromhex(
    "8daa416c6c6f775374616c65c3aa4461746163656e746572a3646378a646696c746572a0a64d617841676500ac4d6178517565727954696d65"
    "00b04d61785374616c654475726174696f6ece77359400ad4d696e5175657279496e64657800ae4d757374526576616c6964617465c2a44e6f"
    "6465a26331b152657175697265436f6e73697374656e74c2ac5374616c6549664572726f7200a5546f6b656ea0a85573654361636865c2"
)
R1_REPLY_HEADER = bytes.fromhex(
    "83a54572726f72a0a353657101ad536572766963654d6574686f64b7436174616c6f672e4e6f6465536572766963654c697374"
)
R1_REPLY = bytes.fromhex(
    "85b0436f6e73697374656e63794c6576656ca0a5496e64657810ab4b6e6f776e4c6561646572c3ab4c617374436f6e7461637400ac4e6f6465"
    "536572766963657382a44e6f646588a741646472657373aa3132372e302e302e3732ab437265617465496e64657810aa4461746163656e7465"
    "72a3646378a24944da002463393033313132652d626664622d643838352d636236392d383466643034323066346437a44d657461c0ab4d6f64"
    "696679496e64657810a44e6f6465a26331af546167676564416464726573736573c0a85365727669636573c0"
)
R2_HEADER = bytes.fromhex("82a353657103ad536572766963654d6574686f64b0436174616c6f672e5265676973746572")
R2_BODY = bytes.fromhex(
    "8da741646472657373aa3132372e302e302e3732a5436865636bc0a6436865636b73c0ab437265617465496e64657800aa4461746163656e74"
    "6572a3646378a24944da002463393033313132652d626664622d643838352d636236392d383466643034323066346437ab4d6f64696679496e"
    "64657800a44e6f6465a26331a84e6f64654d65746182a47a6f6e65a27a31b6636f6e73756c2d6e6574776f726b2d7365676d656e74a0a75365"
    "7276696365c0ae536b69704e6f6465557064617465c2af54616767656441646472657373657384a36c616eaa3132372e302e302e3732a86c61"
    "6e5f69707634aa3132372e302e302e3732a377616eaa3132372e302e302e3732a877616e5f69707634aa3132372e302e302e3732a5546f6b65"
    "6ea0"
)
R2_REPLY_HEADER = bytes.fromhex("83a54572726f72a0a353657103ad536572766963654d6574686f64b0436174616c6f672e5265676973746572")
R3_HEADER = bytes.fromhex("82a353657113ad536572766963654d6574686f64a94b56532e4170706c79")
R3_BODY = bytes.fromhex(
    "84aa4461746163656e746572a3646378a6446972456e7487ab437265617465496e64657800a5466c6167732aa34b6579a3612f62a94c6f636b"
    "496e64657800ab4d6f64696679496e64657800a753657373696f6ea0a556616c7565a568656c6c6fa24f70a3736574a5546f6b656eda002431"
    "313131313131312d323232322d333333332d343434342d353535353535353535353535"
)
R3_REPLY_HEADER = bytes.fromhex("83a54572726f72a0a353657113ad536572766963654d6574686f64a94b56532e4170706c79")
R3_REPLY = bytes.fromhex("c2")
R4_BODY = bytes.fromhex(
    "8daa416c6c6f775374616c65c2aa4461746163656e746572a3646378a646696c746572a0a34b6579a3612f62a64d617841676500ac4d617851"
    "7565727954696d6500b04d61785374616c654475726174696f6e00ad4d696e5175657279496e64657800ae4d757374526576616c6964617465"
    "c2b152657175697265436f6e73697374656e74c2ac5374616c6549664572726f7200a5546f6b656eda002431313131313131312d323232322d"
    "333333332d343434342d353535353535353535353535a85573654361636865c2"
)
R4_REPLY = bytes.fromhex(
    "85b0436f6e73697374656e63794c6576656ca0a7456e74726965739187ab437265617465496e64657814a5466c6167732aa34b6579a3612f62"
    "a94c6f636b496e64657800ab4d6f64696679496e64657814a753657373696f6ea0a556616c7565a568656c6c6fa5496e64657814ab4b6e6f77"
    "6e4c6561646572c3ab4c617374436f6e7461637400"
)
R5_BODY = bytes.fromhex(
    "de0015aa416c6c6f775374616c65c2a7436f6e6e656374c2aa4461746163656e746572a3646378a646696c746572a0a7496e6772657373c2a6"
    "4d617841676500ac4d6178517565727954696d6500b04d61785374616c654475726174696f6e00ad4d696e5175657279496e64657800ae4d75"
    "7374526576616c6964617465c2af4e6f64654d65746146696c74657273c0b152657175697265436f6e73697374656e74c2ae53657276696365"
    "41646472657373a0ab536572766963654e616d65a3776562aa53657276696365546167a0ab5365727669636554616773c0a6536f7572636584"
    "aa4461746163656e746572a3646378a24970a93132372e302e302e31a44e6f6465a0a75365676d656e74a0ac5374616c6549664572726f7200"
    "a954616746696c746572c2a5546f6b656eda002431313131313131312d323232322d333333332d343434342d353535353535353535353535a8"
    "5573654361636865c2"
)
R6_ZERO = bytes.fromhex("01000000000000000000000000ffff")
R6_REAL = bytes.fromhex("010000000ee296448b0d9667ee0000")

TOKEN = "11111111-2222-3333-4444-555555555555"
NODE_ID = "c903112e-bfdb-d885-cb69-84fd0420f4d7"


class Go(msgspec.Struct, rename="pascal"):
    """Base of Structs whose field names follow Go's."""


class Query(Go, kw_only=True):
    datacenter: str = ""
    token: str = ""
    allow_stale: bool = False
    filter: str = ""
    max_age: int = 0
    max_query_time: int = 0
    max_stale_duration: int = 0
    min_query_index: int = 0
    must_revalidate: bool = False
    require_consistent: bool = False
    stale_if_error: int = 0
    use_cache: bool = False


class Meta(Go, kw_only=True):
    consistency_level: str = ""
    index: int = 0
    known_leader: bool = False
    last_contact: int = 0


class NodeQuery(Query, kw_only=True):
    node: str = ""


class Node(Go, kw_only=True):
    id: str = msgspec.field(default="", name="ID")
    node: str = ""
    address: str = ""
    datacenter: str = ""
    tagged_addresses: dict[str, str] | None = None
    meta: dict[str, str] | None = None
    create_index: int = 0
    modify_index: int = 0


class NodeServiceList(Go, kw_only=True):
    node: Node | None = None
    services: list[str] | None = None


class NodeServiceListReply(Meta, kw_only=True):
    node_services: NodeServiceList = msgspec.field(default_factory=NodeServiceList)


class RegisterRequest(Go, kw_only=True):
    datacenter: str = ""
    token: str = ""
    id: str = msgspec.field(default="", name="ID")
    node: str = ""
    address: str = ""
    tagged_addresses: dict[str, str] | None = None
    node_meta: dict[str, str] | None = None
    service: Node | None = None
    check: Node | None = None
    checks: list[Node] | None = None
    skip_node_update: bool = False
    create_index: int = 0
    modify_index: int = 0


class DirEntry(Go, kw_only=True):
    key: str = ""
    value: bytes | None = None
    flags: int = 0
    session: str = ""
    lock_index: int = 0
    create_index: int = 0
    modify_index: int = 0


class KVSRequest(Go, kw_only=True):
    datacenter: str = ""
    token: str = ""
    op: str = ""
    dir_ent: DirEntry = msgspec.field(default_factory=DirEntry)


class KeyRequest(Query, kw_only=True):
    key: str = ""


class KeyReply(Meta, kw_only=True):
    entries: list[DirEntry] | None = None


class Source(Go, kw_only=True):
    datacenter: str = ""
    ip: str = ""
    node: str = ""
    segment: str = ""


class ServiceQuery(Query, kw_only=True):
    connect: bool = False
    ingress: bool = False
    node_meta_filters: dict[str, str] | None = None
    service_address: str = ""
    service_name: str = ""
    service_tag: str = ""
    service_tags: list[str] | None = None
    source: Source = msgspec.field(default_factory=Source)
    tag_filter: bool = False


class NodesReply(Meta, kw_only=True):
    nodes: list[Node] | None = None


class Empty(Go):
    """No fields."""
