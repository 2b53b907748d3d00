import assert from "node:assert/strict";
import { test } from "node:test";

import { consul, until, Watched } from "./client.mjs";

async function session(t, options) {
  const { ID } = await consul.session.create({ lockdelay: "0s", ...options });
  t.after(() => consul.session.destroy(ID));
  return ID;
}

// The client returns nothing where the answer is `false`.
const acquire = async (key, id, value = "") => (await consul.kv.set({ key, value, acquire: id })) === true;
const release = async (key, id, value = "") => (await consul.kv.set({ key, value, release: id })) === true;

test("one of two contenders holds a lock; the other one gets it after the release", async (t) => {
  const [first, second] = [await session(t), await session(t)];
  assert.equal(await acquire("lock/one", first, "first"), true);
  assert.equal(await acquire("lock/one", first, "first again"), true);
  assert.equal(await acquire("lock/one", second, "second"), false);
  assert.equal(await release("lock/one", second), false);
  const held = await consul.kv.get("lock/one");
  assert.deepEqual([held.Session, held.Value, held.LockIndex], [first, "first again", 1]);

  const watched = new Watched(t, consul.kv.get, { key: "lock/one" });
  assert.equal((await watched.change(1)).Session, first);
  assert.equal(await release("lock/one", first, "free"), true);
  const free = await watched.change(2);
  assert.deepEqual([free.Session, free.Value], [undefined, "free"]);
  assert.equal(await acquire("lock/one", second, "second"), true);
  const taken = await watched.change(3);
  assert.deepEqual([taken.Session, taken.LockIndex], [second, 2]);
});

test("a lock is lost with its session", async (t) => {
  const { ID } = await consul.session.create({ lockdelay: "0s" });
  await acquire("lock/lost", ID, "x");
  const watched = new Watched(t, consul.kv.get, { key: "lock/lost" });
  await watched.change(1);
  await consul.session.destroy(ID);
  const lost = await watched.change(2);
  assert.deepEqual([lost.Session, lost.Value], [undefined, "x"]);
  await assert.rejects(acquire("lock/lost", ID), /invalid session/);
});

test("a key of a session that deletes goes with it", async (t) => {
  const { ID } = await consul.session.create({ behavior: "delete", lockdelay: "0s" });
  await acquire("lock/ephemeral", ID, "x");
  const watched = new Watched(t, consul.kv.get, { key: "lock/ephemeral" });
  await watched.change(1);
  await consul.session.destroy(ID);
  assert.equal(await watched.change(2), undefined);
});

test("after a session was lost its locks are kept for the lock-delay", async (t) => {
  const { ID } = await consul.session.create({ lockdelay: "1s" });
  const other = await session(t);
  await acquire("lock/delayed", ID, "x");
  await consul.session.destroy(ID);
  assert.equal(await acquire("lock/delayed", other), false);
  await until(() => acquire("lock/delayed", other), "the lock-delay to be over");
});

test("a session is lost with its check, and the lock with the session", async (t) => {
  await consul.agent.check.register({ name: "heart", ttl: "10m", status: "passing" });
  t.after(() => consul.agent.check.deregister("heart"));
  await until(async () => (await consul.health.state("passing")).some((check) => check.CheckID === "heart"), "the check");
  const { ID } = await consul.session.create({ lockdelay: "0s", checks: ["serfHealth", "heart"] });
  await acquire("lock/check", ID, "x");
  const watched = new Watched(t, consul.kv.get, { key: "lock/check" });
  await watched.change(1);
  await consul.agent.check.fail("heart");
  assert.equal((await watched.change(2)).Session, undefined);
  assert.equal(await consul.session.info(ID), undefined);
});

test("sessions are listed, read, renewed and destroyed", async (t) => {
  const id = await session(t, { name: "named", ttl: "30s", behavior: "release" });
  const { Node } = await consul.session.info(id);
  const [renewed] = await consul.session.renew(id);
  assert.deepEqual([renewed.ID, renewed.Name, renewed.TTL, renewed.Behavior], [id, "named", "30s", "release"]);
  assert.ok((await consul.session.list()).some((one) => one.ID === id));
  assert.ok((await consul.session.node(Node)).some((one) => one.ID === id));
  await consul.session.destroy(id);
  assert.equal(await consul.session.info(id), undefined);
  await assert.rejects(consul.session.renew(id), { statusCode: 404 });
  await assert.rejects(consul.session.create({ ttl: "1s" }), /Invalid Session TTL/);
});
