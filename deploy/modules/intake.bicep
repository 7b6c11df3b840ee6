// The Event Grid topic for tickets and scripts: what is posted there becomes a request. See tickets/README.md, way A.
@description('Beginning of the names.')
param name string
param location string
param tags object

@description('Take keys too, for senders that know no Entra tokens.')
param topicKeys bool

@description('The identity that delivers.')
param intakeId string
param intakePrincipal string

@description('Id of the request queue.')
param queueId string

var blobContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'

resource topic 'Microsoft.EventGrid/topics@2025-02-15' = {
  name: '${name}-${uniqueString(resourceGroup().id)}'
  location: location
  tags: tags
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${intakeId}': {}
    }
  }
  properties: {
    inputSchema: 'CloudEventSchemaV1_0'
    disableLocalAuth: !topicKeys
  }
}

// What could not be delivered for a day, and nobody knows of otherwise.
resource storage 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: 'hsm${uniqueString(resourceGroup().id)}'
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: {
    name: 'Standard_LRS'
  }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: storage
  name: 'default'
}

resource undelivered 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: blobs
  name: 'undelivered'
}

resource forgetting 'Microsoft.Storage/storageAccounts/managementPolicies@2023-05-01' = {
  parent: storage
  name: 'default'
  properties: {
    policy: {
      rules: [
        {
          name: 'after-90-days'
          enabled: true
          type: 'Lifecycle'
          definition: {
            filters: {
              blobTypes: ['blockBlob']
              prefixMatch: ['undelivered/']
            }
            actions: {
              baseBlob: {
                delete: {
                  daysAfterModificationGreaterThan: 90
                }
              }
            }
          }
        }
      ]
    }
  }
}

resource writes 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: undelivered
  name: guid(undelivered.id, intakePrincipal, blobContributor)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobContributor)
    principalId: intakePrincipal
    principalType: 'ServicePrincipal'
  }
}

// No filter: what is wrong is told in an event, where a filter would drop it without a word.
resource delivery 'Microsoft.EventGrid/topics/eventSubscriptions@2025-02-15' = {
  parent: topic
  name: 'to-queue'
  properties: {
    deliveryWithResourceIdentity: {
      identity: {
        type: 'UserAssigned'
        userAssignedIdentity: intakeId
      }
      destination: {
        endpointType: 'ServiceBusQueue'
        properties: {
          // No attribute is mapped to MessageId. A ticket's number may stand on several events, one for each connection, and the
          // queue would drop all but the first in silence; a second click is harmless. See tickets/README.md for ids that are one each.
          resourceId: queueId
        }
      }
    }
    deadLetterWithResourceIdentity: {
      identity: {
        type: 'UserAssigned'
        userAssignedIdentity: intakeId
      }
      deadLetterDestination: {
        endpointType: 'StorageBlob'
        properties: {
          resourceId: storage.id
          blobContainerName: undelivered.name
        }
      }
    }
    eventDeliverySchema: 'CloudEventSchemaV1_0'
    retryPolicy: {
      maxDeliveryAttempts: 30
      eventTimeToLiveInMinutes: 1440
    }
  }
  dependsOn: [writes]
}

output topicId string = topic.id
output endpoint string = topic.properties.endpoint
output storageId string = storage.id
output container string = undelivered.name
