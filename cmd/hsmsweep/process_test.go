package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A process is the program with arguments and an environment of its own.
type process struct {
	cmd      *exec.Cmd
	out, err output
	exited   chan struct{}
}

// start begins a process that lives in a folder of its own and knows hardly any variables but these.
func start(folder string, env []string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command("hsmsweep", args...), exited: make(chan struct{})}
	p.cmd.Dir = folder
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + folder, noRaceNap}, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // ProcessState has what there is to know
	}()
	return p, nil
}

// noRaceNap is a variable that keeps a program with the race detector from sleeping for a second at its end.
const noRaceNap = "GORACE=atexit_sleep_ms=0"

// kill ends the process as a crash does, and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.exited
}

// launch starts a process that ends with the test.
func launch(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p, err := start(t.TempDir(), env, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("hsmsweep %.200s\nstdout:\n%s\nstderr:\n%s", strings.Join(args, " "), p.out.text(), p.err.text())
		}
	})
	return p
}

// call runs a process to its end, which must be exit code 0, and returns what it printed.
func call(t *testing.T, env []string, args ...string) string {
	t.Helper()
	p := launch(t, env, args...)
	p.wantExit(t, 0, patience)
	return p.out.text()
}

// patience is what anything that should happen soon may take on a busy machine.
const patience = 25 * time.Second

func (p *process) terminate(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("SIGTERM: %v", err)
	}
}

// wantExit waits for the process to end, with this exit code; -1 is the end by a signal.
func (p *process) wantExit(t *testing.T, code int, within time.Duration) {
	t.Helper()
	select {
	case <-p.exited:
		if got := p.cmd.ProcessState.ExitCode(); got != code {
			t.Fatalf("hsmsweep %s ended with %s, want exit code %d\nstderr:\n%s", strings.Join(p.cmd.Args[1:], " "), p.cmd.ProcessState, code, p.err.text())
		}
	case <-time.After(within):
		t.Fatalf("hsmsweep %s has not ended within %s", strings.Join(p.cmd.Args[1:], " "), within)
	}
}

// wantLine waits for a line with these words on stderr and returns it.
func (p *process) wantLine(t *testing.T, words string) string {
	t.Helper()
	var found string
	if err := p.wait(&p.err, func(text string) bool {
		for line := range strings.Lines(text) {
			if strings.Contains(line, words) && strings.HasSuffix(line, "\n") {
				found = line
			}
		}
		return found != ""
	}); err != nil {
		t.Fatalf("no line with %q on stderr: %v", words, err)
	}
	return found
}

// wait returns once the text is as wanted, an error when the process ends without it or takes too long.
func (p *process) wait(o *output, wanted func(string) bool) error {
	deadline := time.After(patience)
	for {
		text, changed := o.state()
		if wanted(text) {
			return nil
		}
		select {
		case <-changed:
		case <-p.exited:
			if wanted(o.text()) {
				return nil
			}
			return fmt.Errorf("it ended with %s", p.cmd.ProcessState)
		case <-deadline:
			return fmt.Errorf("not within %s", patience)
		}
	}
}

// output is what a process has written so far.
type output struct {
	mu      sync.Mutex
	written bytes.Buffer
	changed chan struct{} // closed by the next Write, nil while nobody waits
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
	return o.written.Write(b)
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.written.String()
}

// state is the text and a channel that is closed when there is more.
func (o *output) state() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.changed == nil {
		o.changed = make(chan struct{})
	}
	return o.written.String(), o.changed
}

// startEmulator starts the command on free ports, waits for what it prints, and gives that to a shell: the variables that the
// shell has then are what run and submit need.
func startEmulator(folder string, args ...string) (*process, []string, error) {
	p, err := start(folder, nil, slices.Concat([]string{"emulator", "--amqp-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0", "--arm-addr=127.0.0.1:0", "--identity-addr=127.0.0.1:0"}, args)...)
	if err != nil {
		return nil, nil, err
	}
	if err := p.wait(&p.out, func(text string) bool { return strings.Count(text, "\n") >= len(emulatorVariables) }); err != nil {
		p.kill()
		return nil, nil, fmt.Errorf("the emulator printed %q and %q: %w", p.out.text(), p.err.text(), err)
	}
	env, err := evaluate(p.out.text())
	if err != nil {
		p.kill()
		return nil, nil, err
	}
	return p, env, nil
}

// emulatorVariables are what the emulator command exports.
var emulatorVariables = []string{"AZURE_TOKEN_CREDENTIALS", "HSMSWEEP_ARM_AUDIENCE", "HSMSWEEP_ARM_ENDPOINT", "HSMSWEEP_CONNECTION_STRING",
	"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "SSL_CERT_FILE"}

// evaluate has a shell that knows nothing else carry out the lines, and returns its variables, sorted.
func evaluate(lines string) ([]string, error) {
	shell := exec.Command("sh", "-c", `unset PWD; eval "$1"; env`, "sh", lines)
	shell.Env = []string{"PATH=" + os.Getenv("PATH")}
	text, err := shell.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("sh: %w: %s", err, text)
	}
	env := strings.Split(strings.TrimSpace(string(text)), "\n")
	env = slices.DeleteFunc(env, func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"PATH", "PWD", "OLDPWD", "SHLVL", "_"}, name)
	})
	slices.Sort(env)
	return env, nil
}
