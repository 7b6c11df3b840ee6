// The alerts of observe/queries.md, for Bicep to make rules of: each heading's sentence says how often to look, and over how long.
import { readFileSync } from 'node:fs'

const observe = new URL('../observe/', import.meta.url)
const severities = { critical: 1, warning: 3 }
const durations = { '5 minutes': 'PT5M', '10': 'PT10M', '15': 'PT15M', '15 minutes': 'PT15M', '30': 'PT30M', 'hour': 'PT1H',
  'an hour': 'PT1H', '3 hours': 'PT3H' }

/** alerts reads them. */
export function alerts() {
  const text = readFileSync(new URL('queries.md', observe), 'utf8')
  const rules = readFileSync(new URL('alerts.yaml', observe), 'utf8').split('- alert: ').slice(1)
  const severity = Object.fromEntries(rules.map(rule => [rule.split('\n')[0], severities[rule.match(/severity: (\w+)/)[1]]]))
  const query = part => part.match(/```kusto\n([^]*?)\n```/)[1]
  return {
    function: query(text),
    alerts: text.split(/^### /m).slice(1).map(part => {
      const [name, sentence] = part.split(/\n+/)
      const look = sentence.match(/^(.*); look every (.+?) over (.+?)\./)
      return { name, description: look[1].replace(/ \(.*\)$/, '') + '.', severity: severity[name], every: durations[look[2]],
        window: durations[look[3]], query: query(part) }
    }),
  }
}
