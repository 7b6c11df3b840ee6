import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { alerts } from './alerts.js'

test('alerts.json is queries.md', () => {
  const file = new URL('../alerts.json', import.meta.url)
  const got = alerts()
  assert.equal(got.alerts.length, readFileSync(new URL('../observe/alerts.yaml', import.meta.url), 'utf8').match(/- alert: /g).length)
  for (const { name, every, window, severity, query } of got.alerts) {
    assert.ok(every && window && severity, name)
    assert.match(query, /^(hsmsweep|AppRequests)\n/, name)
    assert.ok(query.includes(`ago(${window.replace(/PT(\d+)(.)/, (_, n, unit) => n + unit.toLowerCase())})`), `${name} asks for another time than ${window}`)
  }
  const text = JSON.stringify(got, null, 2) + '\n'
  if (process.env.UPDATE) writeFileSync(file, text)
  assert.equal(text, readFileSync(file, 'utf8'), 'UPDATE=1 npm test writes it anew')
})
