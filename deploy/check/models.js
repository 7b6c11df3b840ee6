// What Azure's resource types are made of, as Microsoft's generated JavaScript SDKs know them: names at their places, kinds of values,
// what must be there. Their api-versions are not those of the Bicep files everywhere, and older as a rule.
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const types = {
  'Microsoft.App/containerApps': ['arm-appcontainers', 'ContainerApp'],
  'Microsoft.App/managedEnvironments': ['arm-appcontainers-preview', 'ManagedEnvironment'],
  'Microsoft.Authorization/roleAssignments': ['arm-authorization', 'RoleAssignmentCreateParameters'],
  'Microsoft.Authorization/roleDefinitions': ['arm-authorization', 'RoleDefinition'],
  'Microsoft.EventGrid/systemTopics': ['arm-eventgrid', 'SystemTopic'],
  'Microsoft.EventGrid/systemTopics/eventSubscriptions': ['arm-eventgrid', 'EventSubscription'],
  'Microsoft.EventGrid/topics': ['arm-eventgrid', 'Topic'],
  'Microsoft.EventGrid/topics/eventSubscriptions': ['arm-eventgrid', 'EventSubscription'],
  'Microsoft.Insights/actionGroups': ['arm-monitor', 'ActionGroupResource'],
  'Microsoft.Insights/components': ['arm-appinsights', 'ApplicationInsightsComponent'],
  'Microsoft.Insights/metricAlerts': ['arm-monitor', 'MetricAlertResource'],
  'Microsoft.ManagedIdentity/userAssignedIdentities': ['arm-msi', 'Identity'],
  'Microsoft.OperationalInsights/workspaces': ['arm-operationalinsights', 'Workspace'],
  'Microsoft.OperationalInsights/workspaces/savedSearches': ['arm-operationalinsights', 'SavedSearch'],
  'Microsoft.ServiceBus/namespaces': ['arm-servicebus', 'SBNamespace'],
  'Microsoft.ServiceBus/namespaces/queues': ['arm-servicebus', 'SBQueue'],
  'Microsoft.ServiceBus/namespaces/topics': ['arm-servicebus', 'SBTopic'],
  'Microsoft.ServiceBus/namespaces/topics/subscriptions': ['arm-servicebus', 'SBSubscription'],
  'Microsoft.ServiceBus/namespaces/topics/subscriptions/rules': ['arm-servicebus', 'Rule'],
  'Microsoft.Storage/storageAccounts': ['arm-storage', 'StorageAccountCreateParameters'],
  'Microsoft.Storage/storageAccounts/blobServices': ['arm-storage', 'BlobServiceProperties'],
  'Microsoft.Storage/storageAccounts/blobServices/containers': ['arm-storage', 'BlobContainer'],
  'Microsoft.Storage/storageAccounts/managementPolicies': ['arm-storage', 'ManagementPolicy'],
}

// Newer than the SDK, and in the service's documentation.
const newer = new Set(['Microsoft.ServiceBus/namespaces.properties.minimumTlsVersion'])

const loaded = {}

// The packages are bundles that keep their models to themselves; so the file is read.
async function models(name) {
  const folder = fileURLToPath(new URL(`node_modules/@azure/${name}`, import.meta.url))
  const file = ['dist/esm', 'dist-esm/src', 'esm'].map(part => `${folder}/${part}/models/mappers.js`).find(existsSync)
  return loaded[name] ??= await import('data:text/javascript,' + encodeURIComponent(readFileSync(file, 'utf8')))
}

/** faults compares a resource with its model: undefined where there is none, else what is wrong with it. */
export async function faults(resource) {
  if (!types[resource.type]) return undefined
  const [name, model] = types[resource.type]
  const { type, apiVersion, id, name: itsName, ...body } = resource
  return [...composite(await models(name), model, body, resource.type)]
}

function* composite(mappers, name, value, at) {
  let model = mappers[name].type
  const kind = model.polymorphicDiscriminator
  if (kind) {
    const said = value[kind.serializedName.replaceAll('\\', '')]
    const which = mappers.discriminators[`${model.uberParent}.${said}`] ?? mappers.discriminators[said]
    if (!which) return yield `${at}: no ${said}`
    model = which.type
  }
  const known = new Map(Object.values(model.modelProperties).map(property => [segments(property.serializedName).join('\0'), property]))
  for (const [path, property] of known) {
    if (property.required && !property.readOnly && path.split('\0').reduce((inner, key) => inner?.[key], value) === undefined) {
      yield `${at}: ${path.split('\0').join('.')} is missing`
    }
  }
  yield* flattened(mappers, known, '', value, at)
}

const segments = name => name.split(/(?<!\\)\./).map(part => part.replaceAll('\\', ''))

// flattened follows names that the SDK has pulled up, such as properties.template.
function* flattened(mappers, known, prefix, value, at) {
  for (const [key, inner] of Object.entries(value)) {
    const path = prefix ? `${prefix}\0${key}` : key
    const property = known.get(path)
    if (property) {
      if (property.readOnly) yield `${at}.${key}: cannot be set`
      yield* check(mappers, property.type, inner, `${at}.${key}`)
    } else if ([...known.keys()].some(name => name.startsWith(path + '\0'))) {
      yield* flattened(mappers, known, path, inner, `${at}.${key}`)
    } else if (!newer.has(`${at}.${key}`)) {
      yield `${at}.${key}: not known`
    }
  }
}

function* check(mappers, type, value, at) {
  const wants = { String: 'string', Enum: 'string', TimeSpan: 'string', DateTime: 'string', Uuid: 'string', Number: 'number', Boolean: 'boolean' }[type.name]
  if (wants && typeof value !== wants) return yield `${at}: ${JSON.stringify(value)} is no ${wants}`
  switch (type.name) {
    case 'Enum':
      if (!type.allowedValues.includes(value)) yield `${at}: ${value}, and not one of ${type.allowedValues.join(', ')}`
      break
    case 'Composite':
      yield* composite(mappers, type.className, value, at)
      break
    case 'Sequence':
      if (!Array.isArray(value)) return yield `${at}: no list`
      for (const [i, item] of value.entries()) yield* check(mappers, type.element.type, item, `${at}[${i}]`)
      break
    case 'Dictionary':
      for (const [key, item] of Object.entries(value)) yield* check(mappers, type.value.type, item, `${at}.${key}`)
  }
}
