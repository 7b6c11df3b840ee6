// Where log lines and traces go.
@description('Beginning of the names.')
param name string
param location string
param tags object
@description('Days that they are kept.')
param retentionDays int

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' = {
  name: '${name}-logs'
  location: location
  tags: tags
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    retentionInDays: retentionDays
  }
}

// Local authentication stays on: the managed OpenTelemetry agent knows no other.
resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: '${name}-traces'
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
  }
}

// The function by which the queries of observe/queries.md begin. The alerts use the same.
resource savedFunction 'Microsoft.OperationalInsights/workspaces/savedSearches@2020-08-01' = {
  parent: workspace
  name: 'hsmsweep'
  properties: {
    category: 'hsmsweep'
    displayName: 'hsmsweep'
    functionAlias: 'hsmsweep'
    query: replace(loadJsonContent('../alerts.json').function, '"hsmsweep"', '"${name}"')
    version: 2
  }
}

output workspace string = workspace.name
output workspaceId string = workspace.id
output insights string = insights.name
