package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v4"
)

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
	Type, Name, ID string
	Properties     json.RawMessage
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
