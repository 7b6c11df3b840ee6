package bench

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"hsmsweep/internal/emulator"
	"hsmsweep/internal/emulator/servicebus/server"
)

// hsmsweep is the path of the binary.
var hsmsweep string

// TestMain builds the binary, or is one of the loops.
func TestMain(m *testing.M) {
	flag.Parse()
	if kind := os.Getenv(loopVariable); kind != "" {
		if err := runLoop(kind); err != nil {
			log.Fatal(err)
		}
		return
	}
	folder, err := os.MkdirTemp("", "hsmsweep-bench-")
	if err != nil {
		log.Fatal(err)
	}
	hsmsweep = filepath.Join(folder, "hsmsweep")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", hsmsweep, "hsmsweep/cmd/hsmsweep")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		log.Fatal("go build: ", err)
	}
	code := m.Run()
	if err := os.RemoveAll(folder); err != nil {
		log.Print(err)
	}
	os.Exit(code)
}

// A process is one that ends with the benchmark.
type process struct {
	*exec.Cmd
	stdout *bufio.Reader
	ended  bool
}

// patience is what anything that should happen soon may take on a busy machine.
const patience = time.Minute

// start begins a process that knows these variables and hardly any other.
func start(tb testing.TB, env []string, name string, args ...string) *process {
	tb.Helper()
	stderr, err := os.CreateTemp(tb.TempDir(), "stderr")
	if err != nil {
		tb.Fatal(err)
	}
	p := &process{Cmd: exec.Command(name, args...)}
	p.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}, env...)
	p.Stderr = stderr
	pipe, err := p.StdoutPipe()
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		tb.Fatal(err)
	}
	p.stdout = bufio.NewReader(pipe)
	tb.Cleanup(func() {
		if !p.ended {
			_ = p.Process.Kill() // it may have ended by itself
			_ = p.Wait()         // and how does not matter any more
		}
		if said, err := os.ReadFile(stderr.Name()); tb.Failed() && err == nil {
			tb.Logf("%s said at last:\n%s", filepath.Base(name), said[max(0, len(said)-2000):])
		}
		stderr.Close()
	})
	return p
}

// end stops the process in its proper way and returns what it had still to say on stdout.
func (p *process) end(tb testing.TB) string {
	tb.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		tb.Fatal(err)
	}
	said, err := io.ReadAll(p.stdout)
	p.ended = true
	if err := errors.Join(err, p.Wait()); err != nil {
		tb.Fatalf("%s: %v", filepath.Base(p.Path), err)
	}
	return string(said)
}

// tick is the unit of times in /proc, which is the same on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// cpu is the processor time that a process has used, in user and system mode.
func cpu(tb testing.TB, pid int) time.Duration {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		tb.Skip("no /proc on this system: ", err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name may have spaces
	fields := strings.Fields(rest)
	var total time.Duration
	for _, field := range fields[11:13] { // utime and stime, of which proc(5) says 14 and 15
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			tb.Fatal(err)
		}
		total += time.Duration(n) * tick
	}
	return total
}

// memory is a line of /proc/PID/status in MiB: VmRSS, what is resident now, or VmHWM, the most that ever was.
func memory(tb testing.TB, pid int, name string) float64 {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			if err != nil {
				tb.Fatal(err)
			}
			return float64(kib) / 1024
		}
	}
	tb.Fatalf("/proc has no %s", name)
	return 0
}

// An azure is an emulator, wherever it runs.
type azure struct {
	env     []string // what a consumer needs to know
	pid     int
	process *process // nil: this one
}

// startAzure starts an emulator as a process. A seed tells how ARM answers; without one, everything is deleted at once.
func startAzure(tb testing.TB, seed string) azure {
	tb.Helper()
	args := []string{"emulator", "--amqp-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0", "--arm-addr=127.0.0.1:0", "--identity-addr=127.0.0.1:0"}
	if seed != "" {
		args = append(args, "--arm-seed="+seed)
	}
	p := start(tb, nil, hsmsweep, args...)
	a := azure{pid: p.Process.Pid, process: p}
	for len(a.env) < emulatorVariables {
		line, err := p.stdout.ReadString('\n')
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		if err != nil || !ok {
			tb.Fatalf("the emulator printed %q: %v", line, err)
		}
		a.env = append(a.env, name+"="+strings.Trim(value, "'"))
	}
	return a
}

// emulatorVariables is how many variables the emulator prints.
const emulatorVariables = 7

// variable is one of those.
func (a azure) variable(name string) string {
	for _, v := range a.env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// counts is what Service Bus has done so far.
type counts map[server.Operation]int

func (a azure) counts(tb testing.TB) counts {
	tb.Helper()
	endpoint, _, _ := strings.Cut(strings.TrimPrefix(a.variable("HSMSWEEP_CONNECTION_STRING"), "Endpoint=sb://"), ";")
	u := url.URL{Scheme: "http", Host: endpoint, Path: emulator.OperationsPath}
	resp, err := http.Get(u.String())
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	var listed []emulator.OperationCount
	if err := json.UnmarshalRead(resp.Body, &listed); err != nil {
		tb.Fatal(err)
	}
	all := counts{}
	for _, c := range listed {
		all[c.Operation] = c.Count
	}
	return all
}

// since is what was done after an earlier count.
func (c counts) since(earlier counts) counts {
	done := counts{}
	for op, n := range c {
		done[op] = n - earlier[op]
	}
	return done
}

// management is the number of requests to an entity's $management.
func (c counts) management(entity string) int {
	n := 0
	for op, count := range c {
		if strings.HasPrefix(op.Name, server.ManagementPrefix) && op.Entity == entity {
			n += count
		}
	}
	return n
}
