package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

const deployFolder = "../../deploy"

// A deployed is a way to run the worker, as far as that must suit the program.
type deployed struct {
	env         map[string]string
	args        []string
	termination time.Duration     // from SIGTERM to SIGKILL
	probes      map[string]string // path and port by kind; nil where nobody probes
	scaler      map[string]string // KEDA's metadata
}

// deployments reads all of them: what the Bicep comes to is in the golden file of deploy/check.
func deployments(t *testing.T) map[string]deployed {
	t.Helper()
	return map[string]deployed{"Bicep": bicepApp(t), "Kubernetes": kubernetesApp(t), "systemd": systemdUnit(t), "Compose": composeWorker(t)}
}

// TestDeployedVariables knows every variable as a flag of run, and takes every value.
func TestDeployedVariables(t *testing.T) {
	var cli commands
	parser := parserOf(t, &cli)
	run := parser.Model.Node.Children[slices.IndexFunc(parser.Model.Node.Children, func(n *kong.Node) bool { return n.Name == "run" })]
	known := map[string]bool{}
	for flag := range flagNames(run) {
		known[variableOf(flag)] = true
	}
	for name, d := range deployments(t) {
		t.Run(name, func(t *testing.T) {
			for variable := range d.env {
				if strings.HasPrefix(variable, "HSMSWEEP_") && !known[variable] {
					t.Errorf("%s is no flag of run", variable)
				}
			}
			if diff := cmp.Diff([]string{"run"}, d.args); diff != "" {
				t.Errorf("arguments (-want +got):\n%s", diff)
			}
			runSettings(t, d.env)
		})
	}
}

// TestDeployedEntities judges what the Bicep makes as `check` would judge it in Azure, for each way to run the worker.
func TestDeployedEntities(t *testing.T) {
	resources := goldenResources(t)
	var queue admin.QueueProperties
	var topic admin.TopicProperties
	properties(t, resources, "Microsoft.ServiceBus/namespaces/queues", "connection-deletes", &queue)
	properties(t, resources, "Microsoft.ServiceBus/namespaces/topics", "connection-events", &topic)
	active, longest := admin.EntityStatusActive, "P10675199DT2H48M5.4775807S" // what Service Bus says of what was left out
	queue.Status, topic.Status, topic.DefaultMessageTimeToLive = &active, &active, &longest
	for name, d := range deployments(t) {
		if name == "Compose" { // it has entities of its own
			continue
		}
		t.Run(name, func(t *testing.T) {
			s := runSettings(t, d.env)
			q, e := queueEntity(d.env["HSMSWEEP_QUEUE"], queue), topicEntity(d.env["HSMSWEEP_EVENTS"], topic)
			findings := append(judgeQueue(q, s), judgeEvents(e, q.lock, s.grace)...)
			findings = append(findings, judgeFlags(s)...)
			for _, subscription := range []string{"all", "tickets-close", "tickets-person"} {
				var p admin.SubscriptionProperties
				properties(t, resources, "Microsoft.ServiceBus/namespaces/topics/subscriptions", subscription, &p)
				p.Status = &active
				findings = append(findings, judgeSubscription(subscriptionEntity(subscription, p))...)
			}
			if len(findings) < 20 {
				t.Errorf("only %d findings", len(findings))
			}
			if diff := cmp.Diff("", notFine(findings)); diff != "" {
				t.Errorf("findings that are not ok (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDeployedTermination leaves time for the drain, the goodbye to Service Bus and three exporters.
func TestDeployedTermination(t *testing.T) {
	const exports = 3 * 3 * time.Second // see flush
	for name, d := range deployments(t) {
		if least := runSettings(t, d.env).grace + closeTimeout + exports; d.termination < least {
			t.Errorf("%s kills after %s, and the end may take %s", name, d.termination, least)
		}
	}
}

// TestDeployedProbes asks for the probes where they are: TestDeployedWorker gets them from a process.
func TestDeployedProbes(t *testing.T) {
	for name, d := range deployments(t) {
		if d.probes == nil {
			continue
		}
		_, port, _ := strings.Cut(d.env["HSMSWEEP_HTTP_ADDR"], ":")
		want := map[string]string{"startup": "/healthz " + port, "liveness": "/healthz " + port, "readiness": "/readyz " + port}
		if diff := cmp.Diff(want, d.probes); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestDeployedScaler has KEDA count the queue that the worker takes from, by the short name of its namespace.
func TestDeployedScaler(t *testing.T) {
	for name, d := range deployments(t) {
		if d.scaler == nil {
			continue
		}
		host := d.scaler["namespace"] + ".servicebus.windows.net"
		if host != d.env["HSMSWEEP_NAMESPACE"] || d.scaler["queueName"] != d.env["HSMSWEEP_QUEUE"] || d.scaler["activationMessageCount"] != "0" {
			t.Errorf("%s: KEDA looks at %v, and the worker at %s of %s", name, d.scaler, d.env["HSMSWEEP_QUEUE"], d.env["HSMSWEEP_NAMESPACE"])
		}
	}
}

// TestDeployedHarmless: whoever breaks out of the worker finds nothing to break out with.
func TestDeployedHarmless(t *testing.T) {
	var pod struct {
		Spec struct {
			Template struct {
				Spec struct {
					AutomountServiceAccountToken *bool `yaml:"automountServiceAccountToken"`
					SecurityContext              any   `yaml:"securityContext"`
					Containers                   []struct {
						SecurityContext any `yaml:"securityContext"`
					}
				}
			}
		}
	}
	manifest(t, "Deployment", &pod)
	spec := pod.Spec.Template.Spec
	if token := spec.AutomountServiceAccountToken; token == nil || *token {
		t.Error("the pod has a token for the cluster")
	}
	want := map[string]any{"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": map[string]any{"type": "RuntimeDefault"}}
	if diff := cmp.Diff(want, spec.SecurityContext); diff != "" {
		t.Errorf("the pod (-want +got):\n%s", diff)
	}
	want = map[string]any{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": map[string]any{"drop": []any{"ALL"}}}
	if diff := cmp.Diff(want, spec.Containers[0].SecurityContext); diff != "" {
		t.Errorf("the container (-want +got):\n%s", diff)
	}
}

// noRegistry is a host in front of a name, which is for whoever deploys to say.
var noRegistry = regexp.MustCompile(`(?m)(image|_IMAGE)\s*[:=]\s*["']?[a-z0-9-]+(\.[a-z0-9-]+)+/`)

func TestDeployedImagesHaveNoHost(t *testing.T) {
	for _, name := range []string{"../Dockerfile", "kubernetes.yaml", "compose.yaml", "main.bicepparam", "modules/app.bicep", "azure.yaml"} {
		if found := noRegistry.FindString(deployText(t, name)); found != "" {
			t.Errorf("%s has %s", name, found)
		}
	}
}
