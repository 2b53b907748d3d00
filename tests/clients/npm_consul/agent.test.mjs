import assert from "node:assert/strict";
import { test } from "node:test";

import { consul, until } from "./client.mjs";

test("members, self, maintenance, join and force-leave", async () => {
  const { Config, Member } = await consul.agent.self();
  const members = await consul.agent.members();
  assert.equal(members.length, 1);
  assert.deepEqual([members[0].Name, members[0].Status, typeof members[0].Status], [Config.NodeName, 1, "number"]);
  assert.equal((await consul.agent.members({ wan: true }))[0].Name, `${Config.NodeName}.dc1`);
  await consul.agent.maintenance({ enable: true, reason: "a & b" });
  assert.equal((await consul.agent.checks())._node_maintenance.Notes, "a & b");
  await consul.agent.maintenance(false);
  assert.equal((await consul.agent.checks())._node_maintenance, undefined);
  const inCatalog = async () => (await consul.health.node(Config.NodeName)).map((check) => check.CheckID);
  await until(async () => !(await inCatalog()).includes("_node_maintenance"), "the end of the maintenance in the catalog");
  await consul.agent.join(Member.Addr);
  await assert.rejects(consul.agent.forceLeave("nobody"), /No node found/);
  await consul.agent.reload();
});

test("services and checks of the agent reach catalog and health", async () => {
  await consul.agent.service.register({
    name: "web",
    id: "web-1",
    tags: ["v1"],
    address: "10.0.0.1",
    port: 8080,
    meta: { a: "b" },
    tagged_addresses: { lan: { address: "10.0.0.2", port: 1 }, wan: { address: "10.0.0.3", port: 2 } },
    checks: [{ ttl: "10m", status: "passing" }, { tcp: "127.0.0.1:1", interval: "10m", timeout: "1s" }],
  });
  const [entry] = await until(async () => {
    const found = await consul.health.service("web");
    return found.length && found;
  }, "the service in health");
  assert.equal(entry.Service.TaggedAddresses.wan.Port, 2);
  assert.deepEqual(entry.Checks.map((check) => check.CheckID), ["serfHealth", "service:web-1:1", "service:web-1:2"]);
  const [inCatalog] = await consul.catalog.service.nodes({ service: "web", tag: "v1" });
  assert.deepEqual([inCatalog.ServiceAddress, inCatalog.ServicePort, inCatalog.ServiceMeta], ["10.0.0.1", 8080, { a: "b" }]);
  assert.deepEqual((await consul.catalog.services()).web, ["v1"]);
  assert.equal((await consul.health.checks({ service: "web", filter: 'CheckID == "service:web-1:1"' })).length, 1);
  await consul.agent.check.register({ id: "memory", name: "memory", ttl: "10m", serviceid: "web-1" });
  for (const [action, status] of [["pass", "passing"], ["warn", "warning"], ["fail", "critical"]]) {
    await consul.agent.check[action]({ id: "memory", note: action });
    const { Status, Output } = (await consul.agent.check.list()).memory;
    assert.deepEqual([Status, Output], [status, action]);
  }
  await consul.agent.service.deregister("web-1");
  assert.deepEqual(Object.keys(await consul.agent.checks()), []);
  await assert.rejects(consul.agent.check.pass("memory"), /CheckID "memory" does not have associated TTL/);
});

test("connect sidecars", async () => {
  await consul.agent.service.register({ name: "api", port: 90, connect: { sidecar_service: {} } });
  const services = await consul.agent.services();
  assert.equal(services["api-sidecar-proxy"].Proxy.DestinationServiceName, "api");
  await until(async () => (await consul.catalog.connect.nodes("api")).length, "the sidecar in the catalog");
  await consul.agent.service.deregister("api");
  assert.deepEqual(Object.keys(await consul.agent.services()), []);
});

test("nodes outside the cluster", async () => {
  const service = { id: "s1", service: "external", tags: ["t"], port: 5 };
  const check = { checkid: "c1", name: "c1", status: "warning", serviceid: "s1", definition: { tcp: "10.9.9.9:5", intervalduration: "5s" } };
  await consul.catalog.register({ node: "outside", address: "10.9.9.9", service, check });
  const { Node, Services } = await consul.catalog.node.services("outside");
  assert.deepEqual([Node.Address, Services.s1.Port], ["10.9.9.9", 5]);
  assert.equal((await consul.health.node("outside"))[0].Definition.TCP, "10.9.9.9:5");
  assert.equal((await consul.health.state("warning"))[0].CheckID, "c1");
  assert.ok((await consul.catalog.nodes()).some((node) => node.Node === "outside"));
  assert.deepEqual(await consul.catalog.datacenters(), ["dc1"]);
  await consul.catalog.deregister({ node: "outside", serviceid: "s1" });
  await consul.catalog.deregister("outside");
  assert.equal(await consul.catalog.node.services("outside"), undefined);
});

test("events", async () => {
  const fired = await consul.event.fire("deploy", "größer");
  assert.equal(fired.Payload, "größer");
  const seen = await until(async () => (await consul.event.list("deploy")).find((event) => event.ID === fired.ID), "the event");
  assert.equal(seen.Payload, "größer");
  assert.deepEqual(await consul.event.list("no-such-event"), []);
});

test("prepared queries", async () => {
  const { ID } = await consul.query.create({ name: "q", service: { service: "consul", onlypassing: true } });
  assert.equal((await consul.query.get(ID)).Name, "q");
  assert.equal((await consul.query.execute("q")).Nodes.length, 1);
  await consul.query.update({ query: ID, name: "q2", service: { service: "none" } });
  assert.deepEqual((await consul.query.execute("q2")).Nodes, []);
  assert.equal((await consul.query.list()).length, 1);
  await consul.query.destroy(ID);
  await assert.rejects(consul.query.get(ID), { statusCode: 404 });
});

test("status", async () => {
  assert.deepEqual(await consul.status.peers(), [await consul.status.leader()]);
});
