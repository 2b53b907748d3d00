import assert from "node:assert/strict";
import { test } from "node:test";

import { consul, until, Watched } from "./client.mjs";

test("a watch on a key sees each of its changes, and nothing of others", async (t) => {
  await consul.kv.set("watched/key", "1");
  const watched = new Watched(t, consul.kv.get, { key: "watched/key" });
  assert.equal((await watched.change(1)).Value, "1");
  for (const value of ["2", "3", "4"]) {
    await consul.kv.set("watched/key-of-another-name", value);
    await consul.kv.set("watched/key", value);
    assert.equal((await watched.change(Number(value))).Value, value);
  }
  await consul.kv.del("watched/key");
  assert.equal(await watched.change(5), undefined);
  assert.equal(watched.changes.length, 5);
  assert.deepEqual(watched.errors, []);
});

test("a watch on a key that is not there wakes for that key alone", async (t) => {
  const watched = new Watched(t, consul.kv.get, { key: "missing/key" });
  assert.equal(await watched.change(1), undefined);
  await consul.kv.set("missing/other", "x");
  await consul.kv.del("missing/other");
  await consul.kv.set("missing/key", "found");
  assert.equal((await watched.change(2)).Value, "found");
  assert.equal(watched.changes.length, 2);
});

test("a watch on a prefix sees keys come, change and go", async (t) => {
  const watched = new Watched(t, consul.kv.get, { key: "prefix/", recurse: true });
  const keys = async (count) => (await watched.change(count))?.map((entry) => entry.Key);
  assert.equal(await keys(1), undefined);
  await consul.kv.set("prefix/a", "1");
  assert.deepEqual(await keys(2), ["prefix/a"]);
  await consul.kv.set("elsewhere", "1");
  await consul.kv.set("prefix/b", "1");
  assert.deepEqual(await keys(3), ["prefix/a", "prefix/b"]);
  await consul.kv.del({ key: "prefix/a", recurse: true });
  assert.deepEqual(await keys(4), ["prefix/b"]);
  assert.equal(watched.changes.length, 4);
});

test("a watch on the keys of a prefix", async (t) => {
  await consul.kv.set("listed/a/1", "x");
  const watched = new Watched(t, consul.kv.keys, { key: "listed/", separator: "/" });
  assert.deepEqual(await watched.change(1), ["listed/a/"]);
  await consul.kv.set("listed/b", "x");
  assert.deepEqual(await watched.change(2), ["listed/a/", "listed/b"]);
});

test("a watch on a service sees instances and their health, and nothing of other services", async (t) => {
  const watched = new Watched(t, consul.health.service, { service: "shop", passing: true });
  assert.deepEqual(await watched.change(1), []);
  const register = (name, id) => consul.agent.service.register({ name, id, port: 80, check: { ttl: "10m", status: "passing" } });
  await register("unrelated", "unrelated");
  await until(async () => (await consul.health.service("unrelated")).length, "the unrelated service");
  await register("shop", "shop-1");
  assert.deepEqual((await watched.change(2)).map((one) => one.Service.ID), ["shop-1"]);
  await consul.agent.check.fail({ id: "service:shop-1", note: "closed" });
  assert.deepEqual(await watched.change(3), []);
  await consul.agent.check.pass("service:shop-1");
  assert.equal((await watched.change(4))[0].Checks.at(-1).Status, "passing");
  await consul.agent.service.deregister("shop-1");
  assert.deepEqual(await watched.change(5), []);
  await consul.agent.service.deregister("unrelated");
  assert.equal(watched.changes.length, 5);
  assert.deepEqual(watched.errors, []);
});

test("a watch that hears nothing for longer than its wait goes on", async (t) => {
  await consul.kv.set("quiet", "1");
  const watched = new Watched(t, consul.kv.get, { key: "quiet", wait: "200ms" });
  await watched.change(1);
  const before = watched._watch.updateTime();
  await until(() => watched._watch.updateTime() > before + 400, "three rounds without a change");
  assert.equal(watched.changes.length, 1);
  await consul.kv.set("quiet", "2");
  assert.equal((await watched.change(2)).Value, "2");
  assert.deepEqual(watched.errors, []);
});

test("what has no index cannot be watched, and the client says so", async (t) => {
  const watched = new Watched(t, consul.agent.service.list, {});
  await until(() => watched.errors.length, "the client to refuse an answer without an index");
  assert.match(watched.errors[0].message, /Watch not supported/);
});
