// Service Bus: the queue and the topic as `hsmsweep check` wants them, and who may do what with each.
@description('Beginning of the names.')
param name string
param location string
param tags object

@description('Standard or Premium. Basic has neither topics nor duplicate detection.')
@allowed(['Standard', 'Premium'])
param tier string

@description('Principal id of the worker.')
param workerPrincipal string
@description('Principal id of KEDA.')
param scalerPrincipal string
@description('Principal id of Event Grid.')
param intakePrincipal string

@allowed(['Receiver', 'Owner'])
param scalerRole string

@description('Object ids of people and groups who operate it.')
param operators array

// Longer than a lock and a drain, better twice. Event Grid repeats after an hour at most, and a ticket's wanted second try must not be
// swallowed for a day.
@description('A second message with the same id within this time is dropped.')
param queueWindow string = 'PT1H'

var roles = {
  Owner: '090c5cfd-751d-490a-894a-3ce6f1109419'
  Receiver: '4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0'
  Sender: '69a216fc-b8fb-44d8-bc22-1f3c2cd27a39'
}

resource namespace 'Microsoft.ServiceBus/namespaces@2024-01-01' = {
  name: '${name}-${uniqueString(resourceGroup().id)}'
  location: location
  tags: tags
  sku: {
    name: tier
    tier: tier
  }
  properties: {
    // Identities only: no key can leak, since there is none.
    disableLocalAuth: true
    minimumTlsVersion: '1.2'
  }
}

resource queue 'Microsoft.ServiceBus/namespaces/queues@2024-01-01' = {
  parent: namespace
  name: 'connection-deletes'
  properties: {
    lockDuration: 'PT1M'
    // Above --max-deliveries, so that the worker ends such a request, with an event, and not the broker.
    maxDeliveryCount: 10
    requiresDuplicateDetection: true
    duplicateDetectionHistoryTimeWindow: queueWindow
    // Above --give-up-after; what nobody takes for so long becomes a dead letter, and then an event.
    defaultMessageTimeToLive: 'P14D'
    deadLetteringOnMessageExpiration: true
    requiresSession: false
    enablePartitioning: false
    maxSizeInMegabytes: 5120
  }
}

resource topic 'Microsoft.ServiceBus/namespaces/topics@2024-01-01' = {
  parent: namespace
  name: 'connection-events'
  properties: {
    // Days: a step that is repeated late publishes its event under the same id.
    requiresDuplicateDetection: true
    duplicateDetectionHistoryTimeWindow: 'P7D'
    enablePartitioning: false
    maxSizeInMegabytes: 5120
  }
}

// What `hsmsweep events` peeks at. Nothing is taken away, so that it needs a time to live; then events are dead letters, until somebody
// reads those. nearly-full of alerts.bicep tells in time.
resource all 'Microsoft.ServiceBus/namespaces/topics/subscriptions@2024-01-01' = {
  parent: topic
  name: 'all'
  properties: {
    lockDuration: 'PT1M'
    maxDeliveryCount: 10
    defaultMessageTimeToLive: 'P30D'
    deadLetteringOnMessageExpiration: true
    deadLetteringOnFilterEvaluationExceptions: true
    requiresSession: false
  }
}

@description('What closes a ticket: see deploy/tickets/README.md.')
resource ticketsClose 'Microsoft.ServiceBus/namespaces/topics/subscriptions@2024-01-01' = {
  parent: topic
  name: 'tickets-close'
  properties: {
    lockDuration: 'PT1M'
    maxDeliveryCount: 10
    defaultMessageTimeToLive: 'P14D'
    deadLetteringOnMessageExpiration: true
    deadLetteringOnFilterEvaluationExceptions: true
    requiresSession: false
  }
}

// Under the name of the rule that lets everything through, which a new subscription would have beside its own.
resource completed 'Microsoft.ServiceBus/namespaces/topics/subscriptions/rules@2024-01-01' = {
  parent: ticketsClose
  name: '$Default'
  properties: {
    filterType: 'CorrelationFilter'
    correlationFilter: {
      properties: {
        type: 'Hsmsweep.ConnectionDeleteCompleted'
      }
    }
  }
}

@description('What a person must see, of those that have a ticket.')
resource ticketsPerson 'Microsoft.ServiceBus/namespaces/topics/subscriptions@2024-01-01' = {
  parent: topic
  name: 'tickets-person'
  properties: {
    lockDuration: 'PT1M'
    maxDeliveryCount: 10
    defaultMessageTimeToLive: 'P14D'
    deadLetteringOnMessageExpiration: true
    deadLetteringOnFilterEvaluationExceptions: true
    requiresSession: false
  }
}

resource unfinished 'Microsoft.ServiceBus/namespaces/topics/subscriptions/rules@2024-01-01' = {
  parent: ticketsPerson
  name: '$Default'
  properties: {
    filterType: 'SqlFilter'
    sqlFilter: {
      sqlExpression: 'type IN (\'Hsmsweep.ConnectionDeleteSkipped\', \'Hsmsweep.ConnectionDeleteFailed\') AND ticketId IS NOT NULL'
    }
  }
}

// Each right on one entity. The worker: receive and settle, send successors, publish.
resource workerReceives 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: queue
  name: guid(queue.id, workerPrincipal, roles.Receiver)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.Receiver)
    principalId: workerPrincipal
    principalType: 'ServicePrincipal'
  }
}

resource workerSends 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: queue
  name: guid(queue.id, workerPrincipal, roles.Sender)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.Sender)
    principalId: workerPrincipal
    principalType: 'ServicePrincipal'
  }
}

resource workerPublishes 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: topic
  name: guid(topic.id, workerPrincipal, roles.Sender)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.Sender)
    principalId: workerPrincipal
    principalType: 'ServicePrincipal'
  }
}

resource scalerCounts 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: queue
  name: guid(queue.id, scalerPrincipal, roles[scalerRole])
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles[scalerRole])
    principalId: scalerPrincipal
    principalType: 'ServicePrincipal'
  }
}

resource intakeSends 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: queue
  name: guid(queue.id, intakePrincipal, roles.Sender)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.Sender)
    principalId: intakePrincipal
    principalType: 'ServicePrincipal'
  }
}

// Whoever operates it reads settings and counts, too, which is Owner's alone.
resource operate 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for id in operators: {
  scope: namespace
  name: guid(namespace.id, id, roles.Owner)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.Owner)
    principalId: id
  }
}]

output namespace string = namespace.name
output namespaceId string = namespace.id
output queue string = queue.name
output queueId string = queue.id
output events string = topic.name
