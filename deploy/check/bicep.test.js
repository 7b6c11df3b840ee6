import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { evaluate, parameters, parse } from './bicep.js'
import { faults } from './models.js'

const deploy = new URL('..', import.meta.url).pathname
const main = `${deploy}main.bicep`
const subscription = '00000000-0000-0000-0000-000000000000'
const group = name => `/subscriptions/${subscription}/resourceGroups/${name}`

const least = { name: 'hsmsweep', location: 'westeurope', image: 'registry.example/hsmsweep:v1', poolGroups: [group('sample-group')] }
// Everything that can be asked for.
const most = { ...least, searchSubscriptions: [subscription], watchGroups: [group('sample-network')], requireStatus: ['Disconnected', 'Rejected'],
  registryId: `${group('images')}/providers/Microsoft.ContainerRegistry/registries/sample`, alertEmail: 'ops@example.com',
  operators: ['00000000-0000-0000-0000-0000000000aa'], tags: { owner: 'platform' } }

const of = (resources, type) => resources.filter(resource => resource.type === type)

test('every file is Bicep', () => {
  const files = readdirSync(deploy, { recursive: true }).filter(file => file.endsWith('.bicep') && !file.includes('node_modules'))
  assert.ok(files.length > 8)
  for (const file of files) parse(deploy + file)
})

test('every parameter is described', () => {
  for (const node of parse(main).filter(node => node.type === 'parameter_declaration')) {
    const before = node.previousNamedSibling
    assert.match((before?.type === 'decorators' ? before.text : '') + node.text, /@description\('.+'\)/, node.text)
  }
})

test('the resources are as they were read', () => {
  const golden = new URL('resources.golden.json', import.meta.url)
  const got = JSON.stringify(evaluate(main, most).resources, null, 1) + '\n'
  if (process.env.UPDATE) writeFileSync(golden, got)
  assert.equal(got, readFileSync(golden, 'utf8'), 'UPDATE=1 npm test writes it anew')
})

test('names and kinds of all properties are known to the SDKs', async () => {
  const without = new Set(), all = []
  for (const given of [least, most]) {
    for (const resource of evaluate(main, given).resources) {
      const wrong = await faults(resource)
      if (!wrong) without.add(resource.type)
      else all.push(...wrong)
    }
  }
  assert.deepEqual(all, [])
  // The SDK that npm has describes an older kind of search alert.
  assert.deepEqual([...without].sort(), ['Microsoft.Insights/scheduledQueryRules', 'Microsoft.Resources/resourceGroups'])
})

test('rights: who may do what, and where', () => {
  const names = { '4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0': 'receive', '69a216fc-b8fb-44d8-bc22-1f3c2cd27a39': 'send',
    '090c5cfd-751d-490a-894a-3ce6f1109419': 'own', '7f951dda-4ed3-4680-a7ca-43fe172d538d': 'pull', 'ba92f5b4-2d11-453d-a403-e96b0029c9fe': 'write blobs' }
  const rights = given => of(evaluate(main, given).resources, 'Microsoft.Authorization/roleAssignments').map(assignment => {
    const { roleDefinitionId, principalId, principalType } = assignment.properties
    const operator = most.operators.includes(principalId)
    assert.equal(principalType, operator ? undefined : 'ServicePrincipal')
    const role = roleDefinitionId.split('/roleDefinitions/')[1]
    const where = assignment.id.split('/providers/Microsoft.Authorization/')[0].split('/').slice(-2).join('/')
    return `${operator ? 'operator' : principalId.match(/hsmsweep-(\w+)/)[1]}: ${names[role] ?? role.match(/(\w+)›$/)[1] + ' role'}, ${where}`
  }).sort()
  const bus = ['intake: send, queues/connection-deletes', 'intake: write blobs, containers/undelivered', 'scaler: receive, queues/connection-deletes',
    'worker: receive, queues/connection-deletes', 'worker: send, queues/connection-deletes', 'worker: send, topics/connection-events',
    'worker: worker role, resourceGroups/sample-group']
  assert.deepEqual(rights(least), bus.toSorted())
  assert.deepEqual(rights(most), [...bus, 'operator: own, namespaces/hsmsweep-unique7unique', 'worker: pull, registries/sample', `worker: search role, subscriptions/${subscription}`].sort())
  assert.ok(rights({ ...least, scalerRole: 'Owner' }).includes('scaler: own, queues/connection-deletes'))
})

test('the roles are those of role.json, and search no more than reads', () => {
  const { Actions } = JSON.parse(readFileSync(`${deploy}role.json`))
  const [worker, search] = of(evaluate(main, most).resources, 'Microsoft.Authorization/roleDefinitions').map(role => role.properties.permissions)
  assert.deepEqual(worker, [{ actions: Actions, notActions: [], dataActions: [], notDataActions: [] }])
  assert.equal(Actions.length, 4)
  assert.deepEqual(search[0].actions, Actions.filter(action => !action.endsWith('/delete')))
})

test('the worker has no way in, and KEDA\'s identity no code', () => {
  const [app] = of(evaluate(main, most).resources, 'Microsoft.App/containerApps')
  const { configuration, template } = app.properties
  assert.equal(configuration.ingress, undefined)
  const [rule] = template.scale.rules
  const lifecycle = Object.fromEntries(configuration.identitySettings.map(setting => [setting.identity.split('-').at(-1), setting.lifecycle]))
  assert.deepEqual(lifecycle, { worker: 'Main', scaler: 'None' })
  assert.match(rule.custom.identity, /-scaler$/)
  assert.deepEqual(rule.custom.metadata, { namespace: 'hsmsweep-unique7unique', queueName: 'connection-deletes', messageCount: '500',
    activationMessageCount: '0', cloud: 'AzurePublicCloud' })
  assert.equal(template.scale.minReplicas, 0)
})

test('Event Grid asks for deleted endpoints, not for what the worker deletes', () => {
  const [watch] = of(evaluate(main, most).resources, 'Microsoft.EventGrid/systemTopics/eventSubscriptions')
  assert.deepEqual(watch.properties.filter.includedEventTypes, ['Microsoft.Resources.ResourceDeleteSuccess'])
  const [{ operatorType, key, values }] = watch.properties.filter.advancedFilters
  assert.deepEqual([operatorType, key, values], ['StringIn', 'data.operationName', ['Microsoft.Network/privateEndpoints/delete']])
  for (const { properties } of [watch, ...of(evaluate(main, most).resources, 'Microsoft.EventGrid/topics/eventSubscriptions')]) {
    assert.equal(properties.destination, undefined, 'would deliver with a key, and the namespace takes none')
    assert.match(properties.deliveryWithResourceIdentity.destination.properties.resourceId, /\/queues\/connection-deletes$/)
    assert.equal(properties.deadLetterWithResourceIdentity.deadLetterDestination.properties.blobContainerName, 'undelivered')
  }
})

test('other clouds', () => {
  for (const [cloud, host, keda] of [['usgovernment', 'servicebus.usgovcloudapi.net', 'AzureUSGovernmentCloud'],
    ['china', 'servicebus.chinacloudapi.cn', 'AzureChinaCloud']]) {
    const { resources, outputs } = evaluate(main, { ...least, cloud })
    const { containers, scale } = of(resources, 'Microsoft.App/containerApps')[0].properties.template
    const env = Object.fromEntries(containers[0].env.map(({ name, value }) => [name, value]))
    assert.equal(env.HSMSWEEP_CLOUD, cloud)
    assert.equal(env.HSMSWEEP_NAMESPACE, `hsmsweep-unique7unique.${host}`)
    assert.equal(outputs.namespaceHost, env.HSMSWEEP_NAMESPACE)
    assert.equal(scale.rules[0].custom.metadata.cloud, keda)
  }
  assert.throws(() => evaluate(main, { ...least, cloud: 'mars' }), /allowed are public/)
})

test('main.bicepparam gives what main.bicep wants', () => {
  const needed = { AZURE_LOCATION: 'westeurope', HSMSWEEP_IMAGE: 'registry.example/hsmsweep:v1', HSMSWEEP_POOL_GROUPS: `${group('a')},${group('b')}` }
  const { outputs } = evaluate(main, parameters(`${deploy}main.bicepparam`, needed))
  assert.deepEqual(parameters(`${deploy}main.bicepparam`, { ...needed, AZURE_PRINCIPAL_ID: 'me' }).operators, ['me'])
  assert.equal(outputs.AZURE_RESOURCE_GROUP, 'rg-hsmsweep')
  for (const name of Object.keys(needed)) {
    assert.throws(() => parameters(`${deploy}main.bicepparam`, { ...needed, [name]: undefined }), new RegExp(`${name} is not set`))
  }
})
