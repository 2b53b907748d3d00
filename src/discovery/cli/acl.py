"""`acl`: tokens, policies, roles, auth methods and binding rules.

Every command sends its request and shows what the servers answer, as JSON.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from discovery.model.duration import Duration

from .action import Action, Group
from .client import Client, client_of, failing
from .endpoint import AGENT_FLAGS, SERVER_FLAGS
from .failure import Failed
from .flags import Flag, Kind, Parsed
from .output import FORMAT, JSON_ANYWAY, show, show_json
from .values import exactly, value_of

_Read: TypeAlias = Callable[[Parsed, str], object]
"""Makes a field's value of a flag; None: it was not given."""


def _given(given: Parsed, flag: str) -> object:
    value = given.values[flag]
    if flag not in given.given:
        return None
    return str(value) if isinstance(value, Duration) else value


def _references(given: Parsed, noun: str) -> object:
    """`-policy-id=a -policy-name=b` as links by ID and by name."""
    ids, names = given.texts(f"{noun}-id"), given.texts(f"{noun}-name")
    return [*({"ID": one} for one in ids), *({"Name": one} for one in names)] or None


def _identities(given: Parsed, flag: str) -> object:
    """`name` or `name:dc1,dc2`."""
    found = []
    for text in given.texts(flag):
        name, _, datacenters = text.partition(":")
        found.append({"ServiceName": name, **({"Datacenters": datacenters.split(",")} if datacenters else {})})
    return found or None


def _content(given: Parsed, flag: str) -> object:
    return value_of(given.text(flag)).decode(errors="replace") if given.text(flag) else None


def _document(given: Parsed, flag: str) -> object:
    text = _content(given, flag)
    try:
        return json.loads(str(text)) if text is not None else None
    except ValueError as error:
        raise Failed(f"Error parsing -{flag}: {error}") from None


@dataclass(frozen=True, slots=True)
class _Noun:
    """`fields` says from which flag a field of the body is read, and how. `key` is the flag that names one of them."""

    name: str
    plural: str
    flags: tuple[Flag, ...]
    fields: Mapping[str, tuple[str, _Read]]
    key: str = "id"
    by_name: bool = False
    """Whether one can be named by -name where -id would be needed."""

    @property
    def word(self) -> str:
        return self.name.replace("-", " ")

    @property
    def path(self) -> str:
        return f"/v1/acl/{self.name}"

    def body(self, given: Parsed) -> dict[str, object]:
        values = {field: read(given, flag) for field, (flag, read) in self.fields.items()}
        return {field: value for field, value in values.items() if value is not None}

    def one(self, given: Parsed) -> str:
        if given.text(self.key):
            return f"{self.path}/{given.text(self.key)}"
        if self.by_name and given.text("name"):
            return f"{self.path}/name/{given.text('name')}"
        raise Failed(
            "Must specify either the -id or -name parameters" if self.by_name else f"Must specify the -{self.key} parameter"
        )

    def list_all(self, given: Parsed) -> None:
        with failing(f"Failed to retrieve the {self.word} list"):
            show_json(client_of(given).get(f"/v1/acl/{self.plural}").json())

    def read(self, given: Parsed) -> None:
        path = f"{self.path}/self" if "self" in given.values and given.flag("self") else self.one(given)
        with failing(f"Error reading {self.word}"):
            show_json(client_of(given).get(path).json())

    def create(self, given: Parsed) -> None:
        with failing(f"Failed to create new {self.word}"):
            show_json(client_of(given).put(self.path, self.body(given)).json())

    def update(self, given: Parsed) -> None:
        """What is not given stays as it is."""
        client = client_of(given)
        path = self.by_id(given, client)
        with failing(f"Error reading {self.word}"):
            current: dict[str, Any] = client.get(path).json()
        with failing(f"Error updating {self.word}"):
            show_json(client.put(path, {**current, **self.body(given)}).json())

    def delete(self, given: Parsed) -> None:
        client = client_of(given)
        path = self.by_id(given, client)
        name = path.rpartition("/")[2]
        with failing(f'Error deleting {self.word} "{name}"'):
            client.delete(path)
        show(given, f'{self.word.capitalize()} "{name}" deleted successfully', {"Deleted": name})

    def by_id(self, given: Parsed, client: Client) -> str:
        """The path that can be written to: one that goes by name is looked up."""
        path = self.one(given)
        if "/name/" not in path:
            return path
        with failing(f"Error determining {self.word} ID"):
            return f"{self.path}/{client.get(path).json()['ID']}"

    def clone(self, given: Parsed) -> None:
        path = f"{self.one(given)}/clone"
        with failing(f"Error cloning {self.word}"):
            show_json(client_of(given).put(path, self.body(given)).json())

    def group(self, more: Mapping[str, Action] | None = None, read_flags: tuple[Flag, ...] = ()) -> Group:
        known = {flag.name for flag in self.flags}
        key = () if self.key in known else (Flag(self.key, help=f"The {self.word} meant."),)
        name = () if not self.by_name else (Flag("name", help=f"Name of the {self.word} meant."),)
        named = (*SERVER_FLAGS, *(key or (Flag(self.key, help=f"The {self.word} meant."),)), *name)
        whole = (*SERVER_FLAGS, JSON_ANYWAY, *self.flags)
        usage = f"acl {self.name}"
        return Group(
            usage,
            f"Works with ACL {self.plural.replace('-', ' ')}",
            {
                "list": Action(f"{usage} list [options]", "Lists all", self.list_all, (*SERVER_FLAGS, JSON_ANYWAY)),
                "read": Action(f"{usage} read [options]", "Shows one", self.read, (*named, JSON_ANYWAY, *read_flags)),
                "create": Action(f"{usage} create [options]", "Creates one", self.create, whole),
                "update": Action(f"{usage} update [options]", "Changes what is given of one", self.update, (*whole, *key)),
                "delete": Action(f"{usage} delete [options]", "Deletes one", self.delete, (*named, FORMAT)),
                **(more or {}),
            },
        )


_DESCRIPTION: Final = Flag("description", help="Text for people.")
_LINKS: Final = (
    Flag("policy-id", Kind.LIST, "ID of a policy. May be repeated."),
    Flag("policy-name", Kind.LIST, "Name of a policy. May be repeated."),
    Flag("service-identity", Kind.LIST, "A service, as name or name:datacenter,... May be repeated."),
)
_LINK_FIELDS: Final[Mapping[str, tuple[str, _Read]]] = {
    "Policies": ("policy", _references),
    "ServiceIdentities": ("service-identity", _identities),
}

_TOKEN: Final = _Noun(
    "token",
    "tokens",
    (
        _DESCRIPTION,
        *_LINKS,
        Flag("role-id", Kind.LIST, "ID of a role. May be repeated."),
        Flag("role-name", Kind.LIST, "Name of a role. May be repeated."),
        Flag("accessor", help="The accessor ID to give it, a UUID."),
        Flag("secret", help="The secret to give it, a UUID."),
        Flag("local", Kind.BOOL, "Valid in this datacenter only."),
        Flag("expires-ttl", Kind.DURATION, "How long it is valid."),
    ),
    {
        "AccessorID": ("accessor", _given),
        "SecretID": ("secret", _given),
        "Description": ("description", _given),
        "Local": ("local", _given),
        "ExpirationTTL": ("expires-ttl", _given),
        "Roles": ("role", _references),
        **_LINK_FIELDS,
    },
)

_POLICY: Final = _Noun(
    "policy",
    "policies",
    (
        Flag("name", help="Name of the policy."),
        _DESCRIPTION,
        Flag("rules", help="The rules: as they stand, @FILE, or - for stdin."),
        Flag("valid-datacenter", Kind.LIST, "A datacenter where it counts; otherwise everywhere. May be repeated."),
    ),
    {
        "Name": ("name", _given),
        "Description": ("description", _given),
        "Rules": ("rules", _content),
        "Datacenters": ("valid-datacenter", _given),
    },
    by_name=True,
)

_ROLE: Final = _Noun(
    "role",
    "roles",
    (Flag("name", help="Name of the role."), _DESCRIPTION, *_LINKS),
    {"Name": ("name", _given), "Description": ("description", _given), **_LINK_FIELDS},
    by_name=True,
)

_AUTH_METHOD: Final = _Noun(
    "auth-method",
    "auth-methods",
    (
        Flag("name", help="Name of the auth method."),
        Flag("type", help="Type of the auth method, such as kubernetes or jwt."),
        _DESCRIPTION,
        Flag("config", help="Its settings as JSON: as they stand, @FILE, or - for stdin."),
    ),
    {
        "Name": ("name", _given),
        "Type": ("type", _given),
        "Description": ("description", _given),
        "Config": ("config", _document),
    },
    key="name",
)

_BINDING_RULE: Final = _Noun(
    "binding-rule",
    "binding-rules",
    (
        Flag("method", help="The auth method."),
        _DESCRIPTION,
        Flag("selector", help="Expression that says which identities it is for."),
        Flag("bind-type", help="What it binds to: service, role or node."),
        Flag("bind-name", help="The name it binds to."),
    ),
    {
        "AuthMethod": ("method", _given),
        "Description": ("description", _given),
        "Selector": ("selector", _given),
        "BindType": ("bind-type", _given),
        "BindName": ("bind-name", _given),
    },
)


def _bootstrap(given: Parsed) -> None:
    with failing("Failed ACL bootstrapping"):
        show_json(client_of(given).put("/v1/acl/bootstrap").json())


def _set_agent_token(given: Parsed) -> None:
    exactly(2, given.rest, "Error! Missing TYPE and TOKEN arguments" if not given.rest else "Error! Missing TOKEN argument")
    kind, token = given.rest
    with failing(f'Failed to set ACL token "{kind}"'):
        client_of(given).put(f"/v1/agent/token/{kind}", {"Token": token})
    show(given, f'ACL token "{kind}" set successfully', {"Type": kind})


ACL: Final = Group(
    "acl",
    "Works with access control, where it is enabled",
    {
        "bootstrap": Action(
            "acl bootstrap [options]", "Makes the first management token", _bootstrap, (*SERVER_FLAGS, JSON_ANYWAY)
        ),
        "set-agent-token": Action(
            "acl set-agent-token [options] TYPE TOKEN",
            "Gives the agent a token for its own requests",
            _set_agent_token,
            (*AGENT_FLAGS, FORMAT),
            "TYPE is default, agent, master or replication.",
        ),
        "token": _TOKEN.group(
            {
                "clone": Action(
                    "acl token clone [options]",
                    "Makes another token like one",
                    _TOKEN.clone,
                    (*SERVER_FLAGS, JSON_ANYWAY, *_TOKEN.flags, Flag("id", help="The token meant.")),
                )
            },
            read_flags=(Flag("self", Kind.BOOL, "The token that the request is made with."),),
        ),
        "policy": _POLICY.group(),
        "role": _ROLE.group(),
        "auth-method": _AUTH_METHOD.group(),
        "binding-rule": _BINDING_RULE.group(),
    },
    examples=("acl token list", "acl policy create -name=reader -rules=@reader.hcl"),
)
