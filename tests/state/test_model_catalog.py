"""The catalog with health against a model that keeps plain dicts and recomputes every answer from all of them.

For every read the model says what it depends on (its *grounds*): the watch over the read must fire, and its index must move, when
the grounds change and only then.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from discovery.model import commands as c
from discovery.model import records as m
from discovery.model import requests as r
from discovery.model.errors import RequestFailed
from discovery.model.query import Read
from discovery.state.store import StateStore
from discovery.state.watches import Watch

from .commands import NODES, SESSIONS, deregistrations, new_sessions, registrations
from .stories import uuid

NAMES = ["web", "db", "nope"]
STATES = ["any", "passing", "warning", "critical"]
IDS = [uuid(0xA1), uuid(0xA2), uuid(0xA9)]

Key = tuple[str, str]


class Refused(Exception):
    pass


class Facts(msgspec.Struct):
    """All there is, by lower-case names."""

    nodes: dict[str, m.Node] = {}
    services: dict[Key, m.NodeService] = {}
    checks: dict[Key, m.HealthCheck] = {}
    sessions: dict[str, m.Session] = {}

    def copy(self) -> "Facts":
        return Facts(self.nodes.copy(), self.services.copy(), self.checks.copy(), self.sessions.copy())

    # --- changes ---------------------------------------------------------------------------------------------------

    def register(self, request: r.RegisterRequest, index: int) -> None:
        service = request.service
        if service is not None and service.kind == "connect-proxy" and service.connect.native:
            raise Refused
        self.put_node(request, index)
        if service is not None:
            self.put_service(request.node.lower(), service, index)
        for check in [*(request.checks or []), *([request.check] if request.check is not None else [])]:
            self.put_check(request.node.lower(), check, index)

    def put_node(self, request: r.RegisterRequest, index: int) -> None:
        name = request.node.lower()
        if name in self.nodes and request.skip_node_update:
            return
        same_id = [known for known in self.nodes.values() if request.id and known.id == request.id]
        known = same_id[0] if same_id else self.nodes.get(name)
        holder = self.nodes.get(name)
        if holder is not None and request.id and holder.id != request.id and (holder.id or same_id) and self.alive(name):
            raise Refused
        if same_id and same_id[0].node.lower() != name:
            self.remove_node(same_id[0].node.lower())
        node = m.Node(
            id=request.id,
            node=request.node,
            address=request.address,
            datacenter="dc1",
            meta=request.node_meta,
            create_index=known.create_index if known is not None else index,
            modify_index=known.modify_index if known is not None else index,
        )
        self.nodes[name] = node if node == known else replace(node, modify_index=index)

    def alive(self, node: str) -> bool:
        serf = self.checks.get((node, m.SERF_CHECK_ID.lower()))
        return serf is not None and serf.status != m.CRITICAL

    def put_service(self, node: str, service: m.NodeService, index: int) -> None:
        key = (node, (service.id or service.service).lower())
        known = self.services.get(key)
        service = replace(
            service,
            id=service.id or service.service,
            weights=service.weights or m.Weights(1, 1),
            create_index=known.create_index if known is not None else index,
            modify_index=known.modify_index if known is not None else index,
        )
        self.services[key] = service if service == known else replace(service, modify_index=index)

    def put_check(self, node: str, check: m.HealthCheck, index: int) -> None:
        key = (node, check.check_id.lower())
        known = self.checks.get(key)
        service = self.services.get((node, check.service_id.lower()))
        if check.service_id and service is None:
            raise Refused
        check = replace(
            check,
            node=self.nodes[node].node,
            status=check.status or m.CRITICAL,
            type=m.check_type(check.definition),
            service_name=service.service if check.service_id and service is not None else "",
            service_tags=service.tags if check.service_id and service is not None else [],
            create_index=known.create_index if known is not None else index,
            modify_index=known.modify_index if known is not None else index,
        )
        if check.status == m.CRITICAL:
            self.end_sessions(node, key[1])
        self.checks[key] = (
            check if known is not None and check == replace(known, node=check.node) else replace(check, modify_index=index)
        )

    def end_sessions(self, node: str, check_id: str) -> None:
        for session_id, session in list(self.sessions.items()):
            if session.node.lower() == node and check_id in checks_of(session):
                del self.sessions[session_id]

    def deregister(self, request: r.DeregisterRequest) -> None:
        node = request.node.lower()
        if request.service_id:
            self.remove_service((node, request.service_id.lower()))
        elif request.check_id:
            self.remove_check((node, request.check_id.lower()))
        elif node in self.nodes:
            self.remove_node(node)

    def remove_node(self, node: str) -> None:
        for key in [key for key in self.services if key[0] == node]:
            self.remove_service(key)
        for key in [key for key in self.checks if key[0] == node]:
            self.remove_check(key)
        del self.nodes[node]
        self.sessions = {key: session for key, session in self.sessions.items() if session.node.lower() != node}

    def remove_service(self, key: Key) -> None:
        if self.services.pop(key, None) is not None:
            for check_key, check in list(self.checks.items()):
                if (check_key[0], check.service_id.lower()) == key:
                    self.remove_check(check_key)

    def remove_check(self, key: Key) -> None:
        if self.checks.pop(key, None) is not None:
            self.end_sessions(*key)

    def create_session(self, session: m.Session, index: int) -> None:
        node = session.node.lower()
        if node not in self.nodes:
            raise Refused
        for check_id in checks_of(session):
            check = self.checks.get((node, check_id))
            if check is None or check.status == m.CRITICAL:
                raise Refused
        self.sessions[session.id] = replace(session, create_index=index, modify_index=index)

    # --- answers ---------------------------------------------------------------------------------------------------

    def keys_named(self, name: str) -> list[Key]:
        return sorted(key for key, service in self.services.items() if service.service.lower() == name)

    def keys_connected(self, name: str) -> list[Key]:
        return sorted(key for key, service in self.services.items() if connects_to(service) == name)

    def checks_where(self, holds: Callable[[Key, m.HealthCheck], bool]) -> list[m.HealthCheck]:
        return [check for key, check in sorted(self.checks.items()) if holds(key, check)]

    def health(self, keys: list[Key]) -> list[m.CheckServiceNode]:
        return [m.CheckServiceNode(self.nodes[key[0]], self.services[key], self.checks_about(key)) for key in keys]

    def checks_about(self, key: Key) -> list[m.HealthCheck]:
        own = self.checks_where(lambda where, check: where[0] == key[0] and not check.service_id)
        return own + self.checks_where(
            lambda where, check: (where[0], check.service_id.lower()) == key and bool(check.service_id)
        )

    def service_checks(self, name: str) -> list[m.HealthCheck]:
        return self.checks_where(lambda _, check: bool(check.service_id) and check.service_name.lower() == name)

    def services_on(self, node: str) -> list[m.NodeService]:
        return [service for key, service in sorted(self.services.items()) if key[0] == node]

    def tags(self) -> dict[str, list[str]]:
        names = sorted({service.service for service in self.services.values()})
        return {
            name: sorted({tag for service in self.services.values() if service.service == name for tag in service.tags})
            for name in names
        }

    def with_id(self, node_id: str) -> list[m.Node]:
        return [node for node in self.nodes.values() if node.id == node_id]


def checks_of(session: m.Session) -> set[str]:
    return {check.lower() for check in session.node_checks or ()} | {check.id.lower() for check in session.service_checks or ()}


def connects_to(service: m.NodeService) -> str | None:
    if service.kind == "connect-proxy":
        return service.proxy.destination_service_name.lower()
    return service.service.lower() if service.connect.native else None


class Question(msgspec.Struct):
    """A read, the answer the facts give to it, and what it depends on beyond that answer."""

    ask: Callable[[StateStore], Read[Any]]
    answer: Callable[[Facts], Any]
    grounds: Callable[[Facts], Any] = lambda facts: None


def questions() -> dict[str, Question]:
    found = {
        "nodes": Question(lambda s: s.nodes(), lambda f: [f.nodes[name] for name in sorted(f.nodes)]),
        "services": Question(lambda s: s.services(), lambda f: f.tags()),
        "instances": Question(lambda s: s.service_dump(), lambda f: f.health(sorted(f.services)), lambda f: (f.nodes, f.checks)),
        "sessions": Question(lambda s: s.session_list(), lambda f: [f.sessions[key] for key in sorted(f.sessions)]),
    }
    for name in NODES:
        low = name.lower()
        found[f"node {name}"] = Question(
            lambda s, name=name: s.node_service_list(name),
            lambda f, low=low: r.NodeServiceList(f.nodes.get(low), f.services_on(low) or None),
        )
        found[f"node checks {name}"] = Question(
            lambda s, name=name: s.node_checks(name), lambda f, low=low: f.checks_where(lambda key, _: key[0] == low)
        )
        found[f"node sessions {name}"] = Question(
            lambda s, name=name: s.node_sessions(name),
            lambda f, low=low: [f.sessions[key] for key in sorted(f.sessions) if f.sessions[key].node.lower() == low],
        )
    for name in NAMES:
        found[f"health {name}"] = Question(
            lambda s, name=name: s.check_service_nodes(name),
            lambda f, name=name: f.health(f.keys_named(name)),
        )
        found[f"checks {name}"] = Question(
            lambda s, name=name: s.service_checks(name),
            lambda f, name=name: f.service_checks(name),
        )
        found[f"connect {name}"] = Question(
            lambda s, name=name: s.check_service_nodes(name, connect=True), lambda f, name=name: f.health(f.keys_connected(name))
        )
    for state in STATES:
        found[f"state {state}"] = Question(
            lambda s, state=state: s.checks_in_state(state),
            lambda f, state=state: f.checks_where(lambda _, check: state in ("any", check.status)),
        )
    for node_id in IDS:
        found[f"id {node_id[-2:]}"] = Question(
            lambda s, node_id=node_id: s.node_services(node_id),
            lambda f, node_id=node_id: next(
                (r.NodeServices(node, {one.id: one for one in f.services_on(node.node.lower())}) for node in f.with_id(node_id)),
                None,
            ),
        )
    return found


QUESTIONS = questions()


def says_each_check_once(request: r.RegisterRequest) -> bool:
    """What one command says twice it may well tell twice."""
    checks = [*(request.checks or ()), *([request.check] if request.check is not None else [])]
    return len({check.check_id.lower() for check in checks}) == len(checks)


consistent = registrations.filter(says_each_check_once)


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = StateStore()
        self.facts = Facts({}, {}, {}, {})
        self.used: set[str] = set()

    def step(self, command: c.Command, change: Callable[[Facts, int], None]) -> bool:
        """Apply a command to both, and compare what moved with what had to. False if it was refused."""
        before = {name: question.ask(self.store) for name, question in QUESTIONS.items()}
        watches: dict[str, Watch] = {name: self.store.watches.watch(read.topics) for name, read in before.items()}
        result = self.store.apply([command])[0]
        after = self.facts.copy()
        try:
            change(after, self.store.index)
        except Refused:
            after = self.facts
            assert isinstance(result, RequestFailed), command
        else:
            assert not isinstance(result, RequestFailed), result
        for name, question in QUESTIONS.items():
            changed = grounds(question, after) != grounds(question, self.facts)
            read = question.ask(self.store)
            assert watches[name].fired is changed, f"{name}: {'not ' * changed}woken by {command}"
            assert read.index == (self.store.index if changed else before[name].index), f"{name}: index after {command}"
            assert read.value == question.answer(after), f"{name}: answer after {command}"
        self.facts = after
        return not isinstance(result, RequestFailed)

    @rule(request=consistent)
    def register(self, request: r.RegisterRequest) -> None:
        self.registered(request)

    def registered(self, request: r.RegisterRequest) -> bool:
        return self.step(c.Register(request), lambda facts, index: facts.register(request, index))

    @rule(request=consistent)
    def register_again(self, request: r.RegisterRequest) -> None:
        """The store knows beforehand whether anything would change."""
        self.registered(request)
        known, before = self.store.is_registered(request), self.facts
        assert known is (self.registered(request) and self.facts == before)

    @rule(request=deregistrations)
    def deregister(self, request: r.DeregisterRequest) -> None:
        self.step(c.Deregister(request), lambda facts, _: facts.deregister(request))

    @rule(session=new_sessions)
    def create_session(self, session: m.Session) -> None:
        if session.id not in self.used:
            self.used.add(session.id)
            request = r.SessionRequest(op="create", session=session)
            self.step(c.SessionChange(request), lambda facts, index: facts.create_session(session, index))

    @rule(session_id=st.sampled_from(SESSIONS))
    def destroy_session(self, session_id: str) -> None:
        request = r.SessionRequest(op="destroy", session=m.Session(id=session_id))
        self.step(c.SessionChange(request), lambda facts, _: facts.sessions.pop(session_id, None) and None)

    @rule()
    def restart_from_a_snapshot(self) -> None:
        chunks = list(self.store.capture().chunks())
        self.store = StateStore()
        self.store.restore(chunks)

    @invariant()
    def answers_are_the_same(self) -> None:
        for name, question in QUESTIONS.items():
            assert question.ask(self.store).value == question.answer(self.facts), name


def grounds(question: Question, facts: Facts) -> tuple[Any, Any]:
    return question.answer(facts), question.grounds(facts)


TestModel = Model.TestCase
TestModel.settings = settings(stateful_step_count=30, max_examples=60, deadline=None)
