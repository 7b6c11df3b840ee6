// A role on a subscription.
targetScope = 'subscription'

@description('Id of the role definition.')
param roleId string
@description('Who gets it.')
param principalId string

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(subscription().id, principalId, roleId)
  properties: {
    roleDefinitionId: roleId
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}
