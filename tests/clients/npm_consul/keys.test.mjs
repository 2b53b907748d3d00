import assert from "node:assert/strict";
import { test } from "node:test";

import { consul, Watched } from "./client.mjs";

const KEYS = [
  "a/b/c",
  "trailing/",
  "a b",
  "100%",
  "50%2F50",
  "what?no",
  "a+b",
  "a&b=c",
  "#fragment",
  "semi;colon,comma",
  "quotes\"'",
  "back\\slash",
  "a:b@c",
  "täglich/größer",
  "日本語/キー",
  "😀",
  "{braces}[brackets]",
  "tilde~|pipe^",
];

for (const name of KEYS) {
  test(`the key ${JSON.stringify(name)}`, async () => {
    const key = `keys/${name}`;
    assert.equal(await consul.kv.set(key, name), true);
    const found = await consul.kv.get(key);
    assert.deepEqual([found.Key, found.Value], [key, name]);
    assert.ok((await consul.kv.keys("keys/")).includes(key));
    assert.ok((await consul.kv.get({ key: "keys/", recurse: true })).some((entry) => entry.Key === key));
    assert.equal((await consul.kv.get({ key, raw: true })).toString(), name);
    assert.equal(await consul.kv.del(key), true);
    assert.equal(await consul.kv.get(key), undefined);
  });
}

for (const name of ["/leading", "double//slash", "..", "a/../b", "./c"]) {
  test(`the key ${JSON.stringify(name)} leads elsewhere, as in Consul`, async () => {
    await assert.rejects(consul.kv.set(`keys/${name}`, "x"), { statusCode: 301 });
  });
}

test("values of all kinds come back as they were", async () => {
  for (const value of ["", "\u0000\u0001", "zwölf", " padded ", JSON.stringify({ a: [1, null] }), "x".repeat(500000)]) {
    await consul.kv.set("values/one", value);
    assert.equal((await consul.kv.get("values/one")).Value ?? "", value);
  }
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  await consul.kv.set("values/bytes", bytes);
  assert.deepEqual((await consul.kv.get({ key: "values/bytes", buffer: true })).Value, bytes);
  await assert.rejects(consul.kv.set("values/long", "x".repeat(512 * 1024 + 1)), { statusCode: 413 });
  await consul.kv.set({ key: "values/flags", value: "x", flags: "18446744073709551615" });
  assert.match((await consul.kv.get({ key: "values/flags", raw: true })).toString(), /^x$/);
});

test("a watch on a key with a slash, a space and a sign", async (t) => {
  const watched = new Watched(t, consul.kv.get, { key: "keys/a b/100%" });
  assert.equal(await watched.change(1), undefined);
  await consul.kv.set("keys/a b/100%", "x");
  assert.equal((await watched.change(2)).Value, "x");
});

for (const id of ["app/web#1", "app:8080/größe", "a b%20c"]) {
  test(`a service with the id ${JSON.stringify(id)}`, async () => {
    await consul.agent.service.register({ name: "oddly-named", id, check: { ttl: "10m" } });
    await consul.agent.check.pass({ id: `service:${id}`, note: "a/b & 100% öffentlich" });
    const check = (await consul.agent.check.list())[`service:${id}`];
    assert.deepEqual([check.Status, check.Output], ["passing", "a/b & 100% öffentlich"]);
    await consul.agent.service.maintenance({ id, enable: true, reason: "why? because & so" });
    assert.equal((await consul.agent.check.list())[`_service_maintenance:${id}`].Notes, "why? because & so");
    await consul.agent.service.deregister(id);
    assert.equal((await consul.agent.service.list())[id], undefined);
  });
}
