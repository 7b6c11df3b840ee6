// The alerts of observe/queries.md; alerts.json is made of that file: cd check, UPDATE=1 npm test.
@description('Beginning of the names.')
param name string
param location string
param tags object

@description('Who is written to; empty: nobody.')
param email string
param workspaceId string
param namespaceId string
@description('Name of the request queue.')
param queue string
@description('Id of the Event Grid topic.')
param topicId string

var searches = loadJsonContent('../alerts.json').alerts

// The rules that need no log line: a process that is not started writes none. The first asks for nothing but what always has a value:
// a count of what is completed has none where nothing ever was, and a rule without a value does not fire.
var measures = [
  {
    name: 'nothing-runs'
    description: 'Something has been due for 30 minutes without a break: is the scale rule right, does the image start? Or it is the load, and lasts: see maxReplicas.'
    severity: 1
    scope: namespaceId
    window: 'PT30M'
    every: 'PT5M'
    conditions: [
      { metric: 'ActiveMessages', of: 'Microsoft.ServiceBus/namespaces', entity: queue, aggregation: 'Minimum', operator: 'GreaterThan', threshold: 0 }
    ]
  }
  {
    name: 'dead-letters'
    description: 'There are dead letters that nobody has looked at: hsmsweep deadletter list. 20 is a matter of taste.'
    severity: 3
    scope: namespaceId
    window: 'PT1H'
    every: 'PT1H'
    conditions: [
      { metric: 'DeadletteredMessages', of: 'Microsoft.ServiceBus/namespaces', entity: queue, aggregation: 'Minimum', operator: 'GreaterThan', threshold: 20 }
    ]
  }
  {
    name: 'nearly-full'
    description: 'The queue or the topic holds more than 4 of its 5 GB: drop what is settled from the dead letters, which count too.'
    severity: 2
    scope: namespaceId
    window: 'PT1H'
    every: 'PT15M'
    conditions: [
      { metric: 'Size', of: 'Microsoft.ServiceBus/namespaces', entity: '*', aggregation: 'Average', operator: 'GreaterThan', threshold: 4294967296 }
    ]
  }
  {
    name: 'undelivered'
    description: 'Event Grid could not deliver a request, and wrote it into the container: may its identity send, is the queue full?'
    severity: 2
    scope: topicId
    window: 'PT1H'
    every: 'PT15M'
    conditions: [
      { metric: 'DeadLetteredCount', of: 'Microsoft.EventGrid/topics', entity: '', aggregation: 'Total', operator: 'GreaterThan', threshold: 0 }
    ]
  }
]

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(email)) {
  name: '${name}-people'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'hsmsweep'
    enabled: true
    emailReceivers: [
      {
        name: 'people'
        emailAddress: email
        useCommonAlertSchema: true
      }
    ]
  }
}

resource searchAlerts 'Microsoft.Insights/scheduledQueryRules@2021-08-01' = [for alert in searches: {
  name: '${name}-${alert.name}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: '${name} ${alert.name}'
    description: '${alert.description} What to do: README.md, Runbook, ${alert.name}.'
    severity: alert.severity
    enabled: true
    scopes: [workspaceId]
    evaluationFrequency: alert.every
    windowSize: alert.window
    autoMitigate: true
    // A new workspace has no table yet: the first log line makes it.
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: alert.query
          timeAggregation: 'Count'
          operator: 'GreaterThan'
          threshold: 0
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: empty(email) ? [] : [people.id]
    }
  }
}]

resource metricAlerts 'Microsoft.Insights/metricAlerts@2018-03-01' = [for alert in measures: {
  name: '${name}-${alert.name}'
  location: 'global'
  tags: tags
  properties: {
    description: alert.description
    severity: alert.severity
    enabled: true
    scopes: [alert.scope]
    evaluationFrequency: alert.every
    windowSize: alert.window
    autoMitigate: true
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: map(alert.conditions, condition => {
        name: condition.metric
        criterionType: 'StaticThresholdCriterion'
        metricName: condition.metric
        metricNamespace: condition.of
        timeAggregation: condition.aggregation
        operator: condition.operator
        threshold: condition.threshold
        // A namespace without traffic may not have told of a metric yet.
        skipMetricValidation: true
        dimensions: empty(condition.entity) ? [] : [
          {
            name: 'EntityName'
            operator: 'Include'
            values: [condition.entity]
          }
        ]
      })
    }
    actions: empty(email) ? [] : [
      {
        actionGroupId: people.id
      }
    ]
  }
}]
