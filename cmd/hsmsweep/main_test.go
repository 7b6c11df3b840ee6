package main

import (
	"errors"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the test binary be hsmsweep, for the scripts and for the tests with processes.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"hsmsweep": main})
}

// TestScripts runs testdata/script, which reads like documentation. Three commands are added to testscript's:
//
//	exits CODE PROGRAM [ARGS]  runs a program that must end with this exit code
//	wrong FLAG PROGRAM [ARGS]  runs a program that must refuse its configuration: exit code 2, and nothing but one line on
//	                           stderr, which names the flag and its variable
//	emulator [ARGS]            starts hsmsweep emulator on free ports, and has a shell evaluate what it prints into the
//	                           script's environment, with Service Bus's address as BUS_ADDR; it is stopped at the script's end
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		Setup:               func(env *testscript.Env) error { env.Vars = append(env.Vars, noRaceNap); return nil },
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Deadline:            time.Now().Add(10 * patience), // of all together, with the race detector, too
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "wrong": wrong, "emulator": emulatorCommand},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARGS]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := runForCode(ts, args[1:]); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func wrong(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || !strings.HasPrefix(args[0], "--") {
		ts.Fatalf("usage: wrong --FLAG PROGRAM [ARGS]")
	}
	flag := args[0]
	variable := "HSMSWEEP_" + strings.ToUpper(strings.ReplaceAll(strings.TrimPrefix(flag, "--"), "-", "_"))
	if code := runForCode(ts, args[1:]); code != exitConfig {
		ts.Fatalf("exit code %d, want %d", code, exitConfig)
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("stdout has %q, want nothing", out)
	}
	line := ts.ReadFile("stderr")
	if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") || !strings.Contains(line, flag+" ("+variable+")") {
		ts.Fatalf("stderr has %q, want one line with %s (%s)", line, flag, variable)
	}
}

func runForCode(ts *testscript.TestScript, command []string) int {
	err := ts.Exec(command[0], command[1:]...)
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		return ended.ExitCode()
	}
	ts.Check(err)
	return 0
}

func emulatorCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: emulator [ARGS]")
	}
	p, env, err := startEmulator(ts.MkAbs("."), slices.Clone(args)...)
	ts.Check(err)
	ts.Defer(p.kill)
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		ts.Setenv(name, value)
	}
	addr, _, _ := strings.Cut(strings.TrimPrefix(ts.Getenv("HSMSWEEP_CONNECTION_STRING"), "Endpoint=sb://"), ";")
	ts.Setenv("BUS_ADDR", addr)
}
