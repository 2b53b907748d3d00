import assert from "node:assert/strict";
import { test } from "node:test";

import { consul } from "./client.mjs";

const base64 = (text) => Buffer.from(text).toString("base64");
const kv = (Verb, Key, more = {}) => ({ KV: { Verb, Key, ...more } });
const set = (key, text) => kv("set", key, { Value: base64(text) });

test("sets and gets are done together", async () => {
  const { Results } = await consul.transaction.create([set("txn/a", "1"), set("txn/b", "2"), kv("get", "txn/a"), kv("get-tree", "txn/")]);
  assert.deepEqual(
    Results.map(({ KV }) => [KV.Key, KV.Value]),
    [
      ["txn/a", null],
      ["txn/b", null],
      ["txn/a", base64("1")],
      ["txn/a", base64("1")],
      ["txn/b", base64("2")],
    ],
  );
  assert.equal(new Set(Results.map(({ KV }) => KV.ModifyIndex)).size, 1);
  assert.equal((await consul.kv.get("txn/b")).Value, "2");
});

test("a check-and-set that fails takes everything back and is named", async () => {
  await consul.kv.set("txn/cas", "before");
  const { ModifyIndex } = await consul.kv.get("txn/cas");
  const operations = (index) => [set("txn/new", "x"), kv("cas", "txn/cas", { Value: base64("after"), Index: index })];
  await assert.rejects(consul.transaction.create(operations(ModifyIndex + 1)), (error) => {
    assert.equal(error.statusCode, 409);
    const { Results, Errors } = error.response.body;
    assert.equal(Results, null);
    assert.deepEqual(Errors, [{ OpIndex: 1, What: 'failed to set key "txn/cas", index is stale' }]);
    return true;
  });
  assert.equal(await consul.kv.get("txn/new"), undefined);
  assert.equal((await consul.kv.get("txn/cas")).Value, "before");
  await consul.transaction.create(operations(ModifyIndex));
  assert.equal((await consul.kv.get("txn/cas")).Value, "after");
  assert.equal((await consul.kv.get("txn/new")).Value, "x");
});

test("locks, checks of them, and deletions", async (t) => {
  const { ID } = await consul.session.create({ lockdelay: "0s" });
  t.after(() => consul.session.destroy(ID));
  await consul.transaction.create([kv("lock", "txn/lock", { Session: ID, Value: base64("held") }), kv("check-session", "txn/lock", { Session: ID })]);
  assert.equal((await consul.kv.get("txn/lock")).Session, ID);
  await consul.transaction.create([kv("check-not-exists", "txn/none"), kv("unlock", "txn/lock", { Session: ID, Value: base64("free") })]);
  assert.equal((await consul.kv.get("txn/lock")).Value, "free");
  const { ModifyIndex } = await consul.kv.get("txn/lock");
  await consul.transaction.create([kv("check-index", "txn/lock", { Index: ModifyIndex }), kv("delete", "txn/lock"), kv("delete-tree", "txn/")]);
  assert.equal(await consul.kv.get({ key: "txn/", recurse: true }), undefined);
  await assert.rejects(consul.transaction.create([kv("get", "txn/lock")]), { statusCode: 409 });
});

test("nodes, services and checks", async () => {
  const Node = { Node: "txn-node", Address: "127.0.0.9" };
  const { Results } = await consul.transaction.create([
    { Node: { Verb: "set", Node } },
    { Service: { Verb: "set", Node: "txn-node", Service: { ID: "txn-1", Service: "txn", Port: 80 } } },
    { Check: { Verb: "set", Check: { Node: "txn-node", CheckID: "c", Name: "c", Status: "passing", ServiceID: "txn-1" } } },
  ]);
  assert.deepEqual(Results.map((result) => Object.keys(result)[0]), ["Node", "Service", "Check"]);
  assert.equal((await consul.health.service({ service: "txn", passing: true }))[0].Node.Node, "txn-node");
  await consul.transaction.create([{ Node: { Verb: "delete", Node } }]);
  assert.deepEqual(await consul.catalog.service.nodes("txn"), []);
});

test("what is no transaction is refused", async () => {
  await assert.rejects(consul.transaction.create([kv("no-such-verb", "txn/a")]), { statusCode: 409 });
  await assert.rejects(consul.transaction.create(Array.from({ length: 65 }, () => set("txn/a", "x"))), { statusCode: 413 });
});
