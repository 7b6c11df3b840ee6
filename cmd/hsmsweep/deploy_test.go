package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
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

func bicepApp(t *testing.T) deployed {
	t.Helper()
	var app struct {
		Template struct {
			TerminationGracePeriodSeconds int
			Containers                    []container
			Scale                         struct {
				Rules []struct {
					Custom struct{ Metadata map[string]string }
				}
			}
		}
	}
	properties(t, goldenResources(t), "Microsoft.App/containerApps", "hsmsweep", &app)
	c := app.Template.Containers[0]
	probes := map[string]string{}
	for _, p := range c.Probes {
		probes[strings.ToLower(p.Type)] = p.String()
	}
	return deployed{env: c.variables(), args: c.Args, termination: time.Duration(app.Template.TerminationGracePeriodSeconds) * time.Second,
		probes: probes, scaler: app.Template.Scale.Rules[0].Custom.Metadata}
}

// A container is as much of one as Azure and Kubernetes have alike, and Azure's probes.
type container struct {
	Args   []string
	Env    []struct{ Name, Value string }
	Probes []struct {
		Type string
		probe200
	}
}

type probe200 struct {
	HTTPGet struct {
		Path string
		Port int
	} `yaml:"httpGet"`
}

func (p probe200) String() string { return fmt.Sprint(p.HTTPGet.Path, " ", p.HTTPGet.Port) }

func (c container) variables() map[string]string {
	env := map[string]string{}
	for _, v := range c.Env {
		env[v.Name] = v.Value
	}
	return env
}

func kubernetesApp(t *testing.T) deployed {
	t.Helper()
	var d struct {
		Spec struct {
			Template struct {
				Spec struct {
					TerminationGracePeriodSeconds int `yaml:"terminationGracePeriodSeconds"`
					Containers                    []struct {
						container      `yaml:",inline"`
						StartupProbe   probe200 `yaml:"startupProbe"`
						LivenessProbe  probe200 `yaml:"livenessProbe"`
						ReadinessProbe probe200 `yaml:"readinessProbe"`
					}
				}
			}
		}
	}
	manifest(t, "Deployment", &d)
	var scaled struct {
		Spec struct {
			Triggers []struct{ Metadata map[string]string }
		}
	}
	manifest(t, "ScaledObject", &scaled)
	c := d.Spec.Template.Spec.Containers[0]
	env := c.variables()
	for variable, value := range env { // what whoever deploys fills in
		env[variable] = strings.ReplaceAll(value, "SUBSCRIPTION", "00000000-0000-0000-0000-000000000000")
	}
	return deployed{env: env, args: c.Args, termination: time.Duration(d.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second,
		probes: map[string]string{"startup": c.StartupProbe.String(), "liveness": c.LivenessProbe.String(), "readiness": c.ReadinessProbe.String()},
		scaler: scaled.Spec.Triggers[0].Metadata}
}

func systemdUnit(t *testing.T) deployed {
	t.Helper()
	unit := deployText(t, "hsmsweep.service")
	entry := func(name string) string {
		found := regexp.MustCompile(`(?m)^` + name + `=(.*)$`).FindStringSubmatch(unit)
		if found == nil {
			t.Fatalf("the unit has no %s", name)
		}
		return found[1]
	}
	d := deployed{args: strings.Fields(entry("ExecStart"))[1:],
		// What the file of variables has at least; the names of the entities are the defaults.
		env: map[string]string{"HSMSWEEP_NAMESPACE": "x.servicebus.windows.net", "HSMSWEEP_QUEUE": defaultQueue, "HSMSWEEP_EVENTS": defaultEvents}}
	for _, v := range strings.Fields(entry("Environment")) {
		name, value, _ := strings.Cut(v, "=")
		d.env[name] = value
	}
	var err error
	if d.termination, err = time.ParseDuration(entry("TimeoutStopSec")); err != nil {
		t.Fatal(err)
	}
	return d
}

func composeWorker(t *testing.T) deployed {
	t.Helper()
	worker := compose(t).Services["worker"]
	env := maps.Clone(worker.Environment)
	env["HSMSWEEP_CONNECTION_STRING"] = env["SERVICEBUS"]
	grace, err := time.ParseDuration(worker.StopGracePeriod)
	if err != nil {
		t.Fatal(err)
	}
	return deployed{env: env, args: strings.Fields(worker.Command[0][strings.LastIndex(worker.Command[0], "exec /hsmsweep "):])[2:], termination: grace}
}

type composeFile struct {
	Services map[string]struct {
		Entrypoint, Command []string
		Environment         map[string]string
		Volumes             []string
		StopGracePeriod     string `yaml:"stop_grace_period"`
	}
}

func compose(t *testing.T) (file composeFile) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(deployText(t, "compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	return file
}

// runSettings are what run makes of variables.
func runSettings(t *testing.T, env map[string]string) settings {
	t.Helper()
	for variable, value := range env {
		t.Setenv(variable, value)
		defer os.Unsetenv(variable) // before the next deployment of the same test
	}
	var cli commands
	if _, err := parserOf(t, &cli).Parse([]string{"run"}); err != nil {
		t.Fatal(err)
	}
	s, err := cli.Run.settings()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func parserOf(t *testing.T, cli *commands) *kong.Kong {
	t.Helper()
	parser, err := kong.New(cli, kong.DefaultEnvars("HSMSWEEP"), kong.Vars{"queue": defaultQueue, "events": defaultEvents, "subscription": defaultSubscription})
	if err != nil {
		t.Fatal(err)
	}
	return parser
}

type armResource struct {
	Type, Name string
	Properties json.RawMessage
}

func goldenResources(t *testing.T) (resources []armResource) {
	t.Helper()
	if err := json.Unmarshal([]byte(deployText(t, "check/resources.golden.json")), &resources); err != nil {
		t.Fatal(err)
	}
	return resources
}

// properties finds a resource. Its properties have the names of the SDK's fields, but for capitals, which encoding/json overlooks.
func properties(t *testing.T, resources []armResource, kind, name string, into any) {
	t.Helper()
	for _, r := range resources {
		if r.Type == kind && r.Name == name {
			if err := json.Unmarshal(r.Properties, into); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no %s %s", kind, name)
}

// manifest finds the document of a kind in kubernetes.yaml.
func manifest(t *testing.T, kind string, into any) {
	t.Helper()
	for document := range strings.SplitSeq(deployText(t, "kubernetes.yaml"), "\n---\n") {
		var head struct{ Kind string }
		if err := yaml.Unmarshal([]byte(document), &head); err != nil {
			t.Fatal(err)
		}
		if head.Kind == kind {
			if err := yaml.Unmarshal([]byte(document), into); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no %s", kind)
}

func deployText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deployFolder, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
