// The worker as a container app: no way in, no replica while nothing is due.
@description('Name of the app.')
param name string
param location string
param tags object

param image string
@description('Host of the registry; empty: the image is public.')
param registryServer string

@allowed(['public', 'usgovernment', 'china'])
param cloud string

@description('Name of the Service Bus namespace, without its domain.')
param namespace string
param queue string
param events string

@description('Name of the Log Analytics workspace.')
param workspace string
@description('Name of the Application Insights component.')
param insights string

@description('The worker: what its code can be.')
param workerId string
param workerClient string
@description('KEDA: what reads the length of the queue.')
param scalerId string

param allowScopes array
param searchScopes array
param requireStatus array
param protectLastApproved bool
param dryRun bool
param verify bool
param maxReplicas int

@description('Messages that are due, for each replica. A replica has 64 in hand and is done with one in a second or less.')
param messagesPerReplica int = 500

// Above --shutdown-grace, the goodbye to Service Bus (3 s) and what is left to export (3 s a signal).
var terminationGrace = 60

var clouds = {
  public: {
    keda: 'AzurePublicCloud'
    bus: 'servicebus.windows.net'
  }
  usgovernment: {
    keda: 'AzureUSGovernmentCloud'
    bus: 'servicebus.usgovcloudapi.net'
  }
  china: {
    keda: 'AzureChinaCloud'
    bus: 'servicebus.chinacloudapi.cn'
  }
}
var namespaceHost = '${namespace}.${clouds[cloud].bus}'

// An empty list is a variable that somebody forgot, and refused; so it is left out.
var listed = filter([
  { name: 'HSMSWEEP_ALLOW_SCOPE', value: join(allowScopes, ',') }
  { name: 'HSMSWEEP_SEARCH_SCOPE', value: join(searchScopes, ',') }
  { name: 'HSMSWEEP_REQUIRE_STATUS', value: join(requireStatus, ',') }
], variable => !empty(variable.value))

resource logs 'Microsoft.OperationalInsights/workspaces@2023-09-01' existing = {
  name: workspace
}

resource traces 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insights
}

// A preview version, since the stable ones have no OpenTelemetry agent.
resource environment 'Microsoft.App/managedEnvironments@2024-10-02-preview' = {
  name: '${name}-environment'
  location: location
  tags: tags
  properties: {
    appLogsConfiguration: {
      destination: 'log-analytics'
      logAnalyticsConfiguration: {
        customerId: logs.properties.customerId
        sharedKey: logs.listKeys().primarySharedKey
      }
    }
    appInsightsConfiguration: {
      connectionString: traces.properties.ConnectionString
    }
    // Traces only: log lines are in the workspace already, and Application Insights takes no metrics.
    openTelemetryConfiguration: {
      tracesConfiguration: {
        destinations: ['appInsights']
      }
    }
    workloadProfiles: [
      {
        name: 'Consumption'
        workloadProfileType: 'Consumption'
      }
    ]
  }
}

resource app 'Microsoft.App/containerApps@2025-07-01' = {
  name: name
  location: location
  tags: tags
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${workerId}': {}
      '${scalerId}': {}
    }
  }
  properties: {
    environmentId: environment.id
    workloadProfileName: 'Consumption'
    configuration: {
      // One revision at a time; the old and the new one share the queue for the while of a drain.
      activeRevisionsMode: 'Single'
      identitySettings: [
        {
          identity: workerId
          lifecycle: 'Main'
        }
        {
          identity: scalerId
          lifecycle: 'None'
        }
      ]
      registries: empty(registryServer) ? [] : [
        {
          server: registryServer
          identity: workerId
        }
      ]
    }
    template: {
      terminationGracePeriodSeconds: terminationGrace
      containers: [
        {
          name: 'hsmsweep'
          image: image
          args: ['run']
          resources: {
            cpu: json('0.25')
            memory: '0.5Gi'
          }
          env: concat([
            { name: 'AZURE_CLIENT_ID', value: workerClient }
            { name: 'AZURE_TOKEN_CREDENTIALS', value: 'ManagedIdentityCredential' }
            { name: 'HSMSWEEP_NAMESPACE', value: namespaceHost }
            { name: 'HSMSWEEP_QUEUE', value: queue }
            { name: 'HSMSWEEP_EVENTS', value: events }
            { name: 'HSMSWEEP_CLOUD', value: cloud }
            { name: 'HSMSWEEP_PROTECT_LAST_APPROVED', value: protectLastApproved ? 'true' : 'false' }
            { name: 'HSMSWEEP_DRY_RUN', value: dryRun ? 'true' : 'false' }
            { name: 'HSMSWEEP_VERIFY', value: verify ? 'true' : 'false' }
            { name: 'HSMSWEEP_CONCURRENCY', value: '64' }
            { name: 'HSMSWEEP_GIVE_UP_AFTER', value: '24h' }
            { name: 'HSMSWEEP_MAX_DELIVERIES', value: '8' }
            { name: 'HSMSWEEP_SHUTDOWN_GRACE', value: '25s' }
            { name: 'HSMSWEEP_HTTP_ADDR', value: ':8080' }
            { name: 'HSMSWEEP_LOG_FORMAT', value: 'json' }
            { name: 'OTEL_SERVICE_NAME', value: 'hsmsweep' }
            { name: 'OTEL_LOGS_EXPORTER', value: 'none' }
            { name: 'OTEL_METRICS_EXPORTER', value: 'none' }
          ], listed)
          // An outage of Service Bus or ARM fails readiness only, and that starts nothing anew.
          probes: [
            {
              type: 'Startup'
              httpGet: { path: '/healthz', port: 8080 }
              periodSeconds: 1
              failureThreshold: 30
              timeoutSeconds: 2
            }
            {
              type: 'Liveness'
              httpGet: { path: '/healthz', port: 8080 }
              periodSeconds: 30
              failureThreshold: 3
              timeoutSeconds: 5
            }
            {
              type: 'Readiness'
              httpGet: { path: '/readyz', port: 8080 }
              periodSeconds: 30
              failureThreshold: 3
              timeoutSeconds: 5
            }
          ]
        }
      ]
      scale: {
        minReplicas: 0
        maxReplicas: maxReplicas
        pollingInterval: 30
        cooldownPeriod: 300
        rules: [
          {
            name: 'due'
            custom: {
              type: 'azure-servicebus'
              identity: scalerId
              // Active messages only: what is parked wakes nobody before it is due.
              metadata: {
                namespace: namespace
                queueName: queue
                messageCount: string(messagesPerReplica)
                activationMessageCount: '0'
                cloud: clouds[cloud].keda
              }
            }
          }
        ]
      }
    }
  }
}

output namespaceHost string = namespaceHost
