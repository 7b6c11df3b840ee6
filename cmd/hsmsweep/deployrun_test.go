package main

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hsmsweep/internal/emulator/servicebus/broker"
)

// TestDeployedConfig serves deploy/Config.json, and nothing breaks with it. The short times are those of Microsoft's emulator.
func TestDeployedConfig(t *testing.T) {
	t.Parallel()
	env := deployedEmulator(t)
	env = append(env, "HSMSWEEP_GIVE_UP_AFTER="+compose(t).Services["worker"].Environment["HSMSWEEP_GIVE_UP_AFTER"])
	var warnings []string
	for line := range strings.Lines(call(t, env, "check", "--json")) { // exit code 0: no failure
		var f finding
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatal(err)
		}
		if f.Result == isWarning {
			warnings = append(warnings, f.Check)
		}
	}
	want := []string{"events.duplicateDetection", "events.timeToLive"}
	if !slices.Equal(warnings, want) {
		t.Errorf("warnings of %v, want %v", warnings, want)
	}
}

// TestDeployedConfigSuitsMicrosofts keeps to the limits of the schema of Microsoft's emulator, which this one does not enforce.
func TestDeployedConfigSuitsMicrosofts(t *testing.T) {
	var file struct {
		UserConfig struct {
			Namespaces []struct {
				Name   string
				Queues []configEntity
				Topics []struct {
					configEntity
					Subscriptions []configEntity
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(deployText(t, "Config.json")), &file); err != nil {
		t.Fatal(err)
	}
	namespace := file.UserConfig.Namespaces[0]
	if namespace.Name != "sbemulatorns" {
		t.Errorf("the namespace is %s: Microsoft's emulator knows sbemulatorns alone", namespace.Name)
	}
	entities := slices.Clone(namespace.Queues)
	for _, topic := range namespace.Topics {
		entities = append(append(entities, topic.configEntity), topic.Subscriptions...)
	}
	if len(entities) != 5 {
		t.Errorf("%d entities, want 5", len(entities))
	}
	for _, e := range entities {
		p := e.Properties
		for setting, limits := range map[string][3]string{
			"DefaultMessageTimeToLive": {p.DefaultMessageTimeToLive, "PT5M", "PT1H"}, "LockDuration": {p.LockDuration, "PT1M", "PT5M"},
			"DuplicateDetectionHistoryTimeWindow": {p.DuplicateDetectionHistoryTimeWindow, "PT5S", "PT5M"},
		} {
			if limits[0] == "" {
				continue
			}
			var d [3]time.Duration
			for i, text := range limits {
				var ok bool
				if d[i], ok = broker.ParseDuration(text); !ok {
					t.Fatalf("%s %s: %s is no duration", e.Name, setting, text)
				}
			}
			if d[0] < d[1] || d[0] > d[2] {
				t.Errorf("%s: %s is %s, and Microsoft's emulator takes %s to %s", e.Name, setting, limits[0], limits[1], limits[2])
			}
		}
		if p.MaxDeliveryCount > 10 {
			t.Errorf("%s: MaxDeliveryCount is %d, and Microsoft's emulator takes 10", e.Name, p.MaxDeliveryCount)
		}
	}
}

type configEntity struct {
	Name       string
	Properties struct {
		LockDuration, DefaultMessageTimeToLive, DuplicateDetectionHistoryTimeWindow string
		MaxDeliveryCount                                                            int
	}
}

// TestComposeCommands has a shell do what Compose has it do in its containers, with our Service Bus in the place of Microsoft's: the
// worker finds ARM and the identity by what the other container wrote down, answers the probes where Azure asks for them, and deletes.
func TestComposeCommands(t *testing.T) {
	t.Parallel()
	servicebus := deployedEmulator(t)
	file, shared := compose(t), t.TempDir()
	here := strings.NewReplacer("$$", "$", "exec /hsmsweep", "exec hsmsweep", "/azure/", shared+"/", "127.0.0.1:5673", "127.0.0.1:0",
		"127.0.0.1:5301", "127.0.0.1:0 --arm-addr 127.0.0.1:0 --identity-addr 127.0.0.1:0", "hsmsweep run", "hsmsweep run --http-addr=127.0.0.1:0")
	service := func(name string, env ...string) *process {
		s := file.Services[name]
		for variable, value := range s.Environment {
			env = append([]string{variable + "=" + strings.ReplaceAll(value, "/azure", shared)}, env...) // the last of a name counts
		}
		return launchCommand(t, env, append(slices.Clone(s.Entrypoint), here.Replace(s.Command[0]))...)
	}
	service("azure")
	bus := servicebus[slices.IndexFunc(servicebus, func(v string) bool { return strings.HasPrefix(v, "HSMSWEEP_CONNECTION_STRING=") })]
	worker := service("worker", "SERVICEBUS="+strings.TrimPrefix(bus, "HSMSWEEP_CONNECTION_STRING="), "HSMSWEEP_LOG_FORMAT=json")
	call(t, servicebus, "submit", connectionID(0))
	call(t, servicebus, "events", "--count=1", "--timeout=20s", "--outcome=deleted")
	probes := worker.probes(t)
	for kind, probe := range bicepApp(t).probes {
		path, _, _ := strings.Cut(probe, " ")
		eventually(t, kind+" probe", func() bool { status, _ := get(t, probes+path); return status == http.StatusOK })
	}
	worker.terminate(t)
	worker.wantExit(t, 0, patience)
}

// deployedEmulator serves deploy/Config.json until the test ends, and returns the variables for its clients.
func deployedEmulator(t *testing.T) []string {
	t.Helper()
	config, err := filepath.Abs(filepath.Join(deployFolder, "Config.json"))
	if err != nil {
		t.Fatal(err)
	}
	p, env, err := startEmulator(t.TempDir(), "--config="+config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return env
}

// launchCommand is launch, of a shell that becomes the program.
func launchCommand(t *testing.T, env []string, command ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(command[0], command[1:]...), exited: make(chan struct{})}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), noRaceNap}, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // ProcessState has what there is to know
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s\nstdout:\n%s\nstderr:\n%s", command, p.out.text(), p.err.text())
		}
	})
	return p
}
