// Deleted private endpoints of a resource group become requests: what an endpoint left behind on a pool is looked for.
// A group has one system topic at most; where it has one already, add the subscription to that by hand.
@description('Beginning of the names.')
param name string
param tags object

@description('The identity that delivers. Documentation of 2021 says that topics of groups, which are global, take none: see README.md.')
param intakeId string

@description('Id of the request queue.')
param queueId string

@description('Id of the storage account, and name of the container, for what cannot be delivered.')
param storageId string
param container string

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' = {
  name: '${name}-endpoints'
  location: 'global'
  tags: tags
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${intakeId}': {}
    }
  }
  properties: {
    source: resourceGroup().id
    topicType: 'Microsoft.Resources.ResourceGroups'
  }
}

resource delivery 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = {
  parent: topic
  name: 'deleted-endpoints'
  properties: {
    filter: {
      includedEventTypes: ['Microsoft.Resources.ResourceDeleteSuccess']
      // Endpoints only. The worker's own deletions raise the same event, of a connection, and would come back to it.
      advancedFilters: [
        {
          operatorType: 'StringIn'
          key: 'data.operationName'
          values: ['Microsoft.Network/privateEndpoints/delete']
        }
      ]
    }
    deliveryWithResourceIdentity: {
      identity: {
        type: 'UserAssigned'
        userAssignedIdentity: intakeId
      }
      destination: {
        endpointType: 'ServiceBusQueue'
        properties: {
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
          resourceId: storageId
          blobContainerName: container
        }
      }
    }
    eventDeliverySchema: 'CloudEventSchemaV1_0'
    retryPolicy: {
      maxDeliveryAttempts: 30
      eventTimeToLiveInMinutes: 1440
    }
  }
}
