// Everything that hsmsweep needs on Azure, in a resource group of its own: see deploy/README.md.
//   az deployment sub create --location LOCATION --parameters deploy/main.bicepparam
targetScope = 'subscription'

@description('Name of this installation: of the resource group (rg-NAME), and the beginning of all other names: small letters, digits, hyphens. azd: the environment.')
@minLength(3)
@maxLength(20)
param name string

@description('Region of everything that has one.')
param location string

@description('The image to run, complete: HOST/hsmsweep:VERSION, better with @sha256:DIGEST. deploy/README.md tells how to build it.')
param image string

@description('ARM id of the container registry the image is in. The worker is given the right to pull. Empty: the image is public.')
param registryId string = ''

@description('ARM ids of the resource groups whose pools may be touched. The worker gets its role there, and refuses requests outside of them.')
@minLength(1)
param poolGroups array

@description('Ids of subscriptions to search for the connections of a deleted endpoint; the worker may read there. Empty: poolGroups are searched.')
param searchSubscriptions array = []

@description('ARM ids of resource groups whose private endpoints, when deleted, become requests through Event Grid. See deploy/README.md first.')
param watchGroups array = []

@description('public, usgovernment or china: where ARM is, and what the hosts are called. The command line must be signed in there.')
@allowed(['public', 'usgovernment', 'china'])
param cloud string = 'public'

@description('Tier of Service Bus. Premium is for private endpoints, larger queues and geo-replication; it costs by the hour. It cannot be changed later.')
@allowed(['Standard', 'Premium'])
param tier string = 'Standard'

@description('Delete only connections in these link states (Approved, Pending, Rejected, Disconnected), whatever a request asks for. Empty: all.')
param requireStatus array = []

@description('Refuse to delete the last Approved connection of a pool whose public access is off, unless the request says force.')
param protectLastApproved bool = true

@description('Decide and report, delete nothing. A good first week.')
param dryRun bool = false

@description('Read back what ARM says is gone, until it is.')
param verify bool = false

@description('Replicas at most. One serves more than ARM takes of one subscription; more help with many subscriptions.')
@minValue(1)
@maxValue(1000)
param maxReplicas int = 5

@description('What KEDA may do to the queue whose length it reads. Receiver ought to do; if nothing wakes the app, Owner is sure to. See deploy/README.md.')
@allowed(['Receiver', 'Owner'])
param scalerRole string = 'Receiver'

@description('Object ids of people and groups who operate it: submit, look, cancel, resubmit, and have `hsmsweep check` read the settings.')
param operators array = []

@description('Ticket systems that can send nothing but a key may post to the Event Grid topic. Off: Entra tokens only.')
param topicKeys bool = false

@description('Who is written to when an alert fires. Empty: alerts are seen in the portal only.')
param alertEmail string = ''

@description('Days that log lines and traces are kept.')
@minValue(30)
@maxValue(730)
param retentionDays int = 30

@description('Tags of everything.')
param tags object = {}

// What azd knows its environment by.
var allTags = union(tags, { 'azd-env-name': name })
var rights = loadJsonContent('role.json')
var here = subscription().id

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: 'rg-${name}'
  location: location
  tags: allTags
}

// Role names are unique in a tenant, hence the installation's name in it.
resource role 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, name, 'worker')
  properties: {
    roleName: '${rights.Name} (${name})'
    description: rights.Description
    type: 'CustomRole'
    permissions: [
      {
        actions: rights.Actions
        notActions: []
        dataActions: []
        notDataActions: []
      }
    ]
    assignableScopes: union([here], map(poolGroups, id => '/subscriptions/${split(id, '/')[2]}'))
  }
}

// To search a subscription it is enough to read: what may be deleted stays as it is.
resource searchRole 'Microsoft.Authorization/roleDefinitions@2022-04-01' = if (!empty(searchSubscriptions)) {
  name: guid(subscription().id, name, 'search')
  properties: {
    roleName: '${rights.Name} search (${name})'
    description: 'Reads private endpoint connections of managed HSM pools, and follows operations. Deletes nothing.'
    type: 'CustomRole'
    permissions: [
      {
        actions: filter(rights.Actions, action => endsWith(action, '/read'))
        notActions: []
        dataActions: []
        notDataActions: []
      }
    ]
    assignableScopes: union([here], map(searchSubscriptions, id => '/subscriptions/${id}'))
  }
}

module identities 'modules/identities.bicep' = {
  name: 'identities'
  scope: group
  params: {
    name: name
    location: location
    tags: allTags
  }
}

module poolRights 'modules/grouprole.bicep' = [for id in poolGroups: {
  name: 'pools-${uniqueString(id, name)}'
  scope: resourceGroup(split(id, '/')[2], split(id, '/')[4])
  params: {
    roleId: role.id
    principalId: identities.outputs.workerPrincipal
  }
}]

module searchRights 'modules/subscriptionrole.bicep' = [for id in searchSubscriptions: {
  name: 'search-${uniqueString(id, name)}'
  scope: subscription(id)
  params: {
    roleId: searchRole.id
    principalId: identities.outputs.workerPrincipal
  }
}]

module pull 'modules/pull.bicep' = if (!empty(registryId)) {
  name: 'pull'
  scope: resourceGroup(split(registryId, '/')[2], split(registryId, '/')[4])
  params: {
    registry: last(split(registryId, '/'))
    principalId: identities.outputs.workerPrincipal
  }
}

module bus 'modules/bus.bicep' = {
  name: 'bus'
  scope: group
  params: {
    name: name
    location: location
    tags: allTags
    tier: tier
    workerPrincipal: identities.outputs.workerPrincipal
    scalerPrincipal: identities.outputs.scalerPrincipal
    intakePrincipal: identities.outputs.intakePrincipal
    scalerRole: scalerRole
    operators: operators
  }
}

module observe 'modules/observe.bicep' = {
  name: 'observe'
  scope: group
  params: {
    name: name
    location: location
    tags: allTags
    retentionDays: retentionDays
  }
}

module app 'modules/app.bicep' = {
  name: 'app'
  scope: group
  params: {
    name: name
    location: location
    tags: allTags
    image: image
    // By way of the module, so that the right to pull is there before the first pull.
    registryServer: empty(registryId) ? '' : (pull!.outputs.server)
    cloud: cloud
    namespace: bus.outputs.namespace
    queue: bus.outputs.queue
    events: bus.outputs.events
    workspace: observe.outputs.workspace
    insights: observe.outputs.insights
    workerId: identities.outputs.workerId
    workerClient: identities.outputs.workerClient
    scalerId: identities.outputs.scalerId
    allowScopes: poolGroups
    searchScopes: empty(searchSubscriptions) ? poolGroups : map(searchSubscriptions, id => '/subscriptions/${id}')
    requireStatus: requireStatus
    protectLastApproved: protectLastApproved
    dryRun: dryRun
    verify: verify
    maxReplicas: maxReplicas
  }
}

module intake 'modules/intake.bicep' = {
  name: 'intake'
  scope: group
  params: {
    name: name
    location: location
    tags: allTags
    topicKeys: topicKeys
    intakeId: identities.outputs.intakeId
    intakePrincipal: identities.outputs.intakePrincipal
    queueId: bus.outputs.queueId
  }
}

// One per group, in the group's own subscription.
module watch 'modules/watch.bicep' = [for id in watchGroups: {
  name: 'watch-${uniqueString(id, name)}'
  scope: resourceGroup(split(id, '/')[2], split(id, '/')[4])
  params: {
    name: name
    tags: allTags
    intakeId: identities.outputs.intakeId
    queueId: bus.outputs.queueId
    storageId: intake.outputs.storageId
    container: intake.outputs.container
  }
}]

module alerts 'modules/alerts.bicep' = {
  name: 'alerts'
  scope: group
  params: {
    name: name
    location: location
    tags: allTags
    email: alertEmail
    workspaceId: observe.outputs.workspaceId
    namespaceId: bus.outputs.namespaceId
    queue: bus.outputs.queue
    topicId: intake.outputs.topicId
  }
}

// Names as az returns them unchanged; it is known to change the case of those in capitals.
@description('What --namespace wants, of every command.')
output namespaceHost string = app.outputs.namespaceHost

@description('Where ticket systems post CloudEvents.')
output topicEndpoint string = intake.outputs.endpoint

@description('The queue, to give people and ticket systems the right to send.')
output queueId string = bus.outputs.queueId

@description('For azd.')
output AZURE_RESOURCE_GROUP string = group.name
