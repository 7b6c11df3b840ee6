// Three identities, so that each can do one thing: the worker, KEDA, and Event Grid.
@description('Beginning of the names.')
param name string
param location string
param tags object

resource worker 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: '${name}-worker'
  location: location
  tags: tags
}

@description('Reads the length of the queue. No code can use it: see identitySettings of the app.')
resource scaler 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: '${name}-scaler'
  location: location
  tags: tags
}

@description('Puts what Event Grid is told into the queue.')
resource intake 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: '${name}-intake'
  location: location
  tags: tags
}

output workerId string = worker.id
output workerClient string = worker.properties.clientId
output workerPrincipal string = worker.properties.principalId
output scalerId string = scaler.id
output scalerPrincipal string = scaler.properties.principalId
output intakeId string = intake.id
output intakePrincipal string = intake.properties.principalId
