// All of it comes from variables, so that azd (azd env set NAME VALUE) and az (NAME=VALUE az …) read the same file.
// Those without a value behind them must be set. Lists are separated by commas.
using 'main.bicep'

param name = readEnvironmentVariable('AZURE_ENV_NAME', 'hsmsweep')
param location = readEnvironmentVariable('AZURE_LOCATION')
param image = readEnvironmentVariable('HSMSWEEP_IMAGE')
param poolGroups = split(readEnvironmentVariable('HSMSWEEP_POOL_GROUPS'), ',')

param registryId = readEnvironmentVariable('HSMSWEEP_REGISTRY_ID', '')
param cloud = readEnvironmentVariable('HSMSWEEP_CLOUD', 'public')
param dryRun = bool(readEnvironmentVariable('HSMSWEEP_DRY_RUN', 'false'))
// azd knows who you are; with az: AZURE_PRINCIPAL_ID=$(az ad signed-in-user show --query id --output tsv).
var operator = readEnvironmentVariable('AZURE_PRINCIPAL_ID', '')
param operators = empty(operator) ? [] : [operator]
param alertEmail = readEnvironmentVariable('HSMSWEEP_ALERT_EMAIL', '')

// Examples of the rest; main.bicep describes them.
// param searchSubscriptions = ['00000000-0000-0000-0000-000000000000']
// param watchGroups = ['/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/sample-network']
// param requireStatus = ['Disconnected', 'Rejected']
// param scalerRole = 'Owner'
// param topicKeys = true
// param tags = { owner: 'platform' }
