// Command hsmsweep deletes dead private endpoint connections of Azure Managed HSM pools: requests come from Service Bus, ends
// go back to it as events. See README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// Exit codes.
const (
	exitFailure = 1 // something went wrong at run time
	exitConfig  = 2 // the configuration is wrong; one line on stderr names the flag and its variable
)

type commands struct {
	Run        runCmd        `cmd:"" help:"The worker: consumes the request queue until SIGTERM or SIGINT, then drains."`
	Demo       demoCmd       `cmd:"" help:"Everything in one process: emulated Azure, the worker, and a sample of every kind of request."`
	Submit     submitCmd     `cmd:"" help:"Puts delete requests on the queue."`
	Parked     parkedCmd     `cmd:"" help:"Lists the requests that wait in the queue. Takes nothing away."`
	Cancel     cancelCmd     `cmd:"" help:"Cancels requests that wait in the queue, or has them due now."`
	Deadletter deadletterCmd `cmd:"" name:"deadletter" help:"Lists, shows, resubmits and drops dead letters: requests that failed."`
	Events     eventsCmd     `cmd:"" help:"Follows the events that tell how requests ended. Takes nothing away."`
	Check      checkCmd      `cmd:"" help:"Looks at everything that run needs, and says what would break."`
	Dashboard  dashboardCmd  `cmd:"" help:"A web page that shows the way of requests as it happens. Takes nothing away."`
	Emulator   emulatorCmd   `cmd:"" help:"Emulated Service Bus, ARM and identity endpoint on fixed ports, for development and tests."`
	Schema     schemaCmd     `cmd:"" help:"Prints the JSON Schema of requests or of events."`
	Completion completionCmd `cmd:"" help:"Prints a script that has a shell complete commands and flags."`
	Version    versionCmd    `cmd:"" help:"Prints version, commit and Go version."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	// The first signal drains. After it signals act as if nobody listened, so that a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
}

// streams are what a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// run is the program, without its process.
func run(ctx context.Context, args []string, std streams) int {
	var cli commands
	exited := -1
	parser, err := kong.New(&cli,
		kong.Name("hsmsweep"),
		kong.Description("Deletes dead private endpoint connections of Azure Managed HSM pools, event by event.\n\n"+
			"Every flag can be given as an environment variable: --max-retry-after is HSMSWEEP_MAX_RETRY_AFTER. A flag wins."),
		kong.DefaultEnvars("HSMSWEEP"),
		kong.Writers(std.out, std.err),
		kong.Exit(func(code int) { exited = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Vars{"queue": defaultQueue, "events": defaultEvents, "subscription": defaultSubscription},
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(std),
	)
	if err != nil {
		fmt.Fprintln(std.err, "hsmsweep:", err)
		return exitFailure
	}
	flagsWin(args)
	command, err := parser.Parse(args)
	if exited >= 0 { // --help
		return exited
	}
	if err == nil {
		err = command.Run()
		if err == nil {
			return 0
		}
		if _, ok := errors.AsType[configError](err); !ok {
			fmt.Fprintln(std.err, "hsmsweep:", err)
			return exitFailure
		}
	}
	fmt.Fprintln(std.err, "hsmsweep:", withVariables(err.Error(), flagNames(parser.Model.Node)))
	return exitConfig
}

// A configError is a fault of flags or variables, in one line that names each --flag.
type configError struct{ error }

// config joins faults of the configuration into one line; nil when there are none.
func config(faults ...error) error {
	if err := errors.Join(faults...); err != nil {
		return configError{errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))}
	}
	return nil
}

// flagsWin drops the variables of flags that are given. kong would let a flag win too, but only over one that it can read.
func flagsWin(args []string) {
	for _, arg := range args {
		if flag, _, _ := strings.Cut(arg, "="); strings.HasPrefix(flag, "--") {
			os.Unsetenv(variableOf(flag))
		}
	}
}

func variableOf(flag string) string {
	return "HSMSWEEP_" + strings.ToUpper(strings.ReplaceAll(strings.TrimPrefix(flag, "--"), "-", "_"))
}

var flagName = regexp.MustCompile(`--[a-z][a-z-]*`)

// withVariables adds to each flag in a message the variable that stands for it. A misspelt flag has none.
func withVariables(message string, known map[string]bool) string {
	return flagName.ReplaceAllStringFunc(strings.ReplaceAll(message, "\n", "; "), func(flag string) string {
		if !known[flag] {
			return flag
		}
		return flag + " (" + variableOf(flag) + ")"
	})
}

// flagNames are the flags of a command and of those below it.
func flagNames(n *kong.Node) map[string]bool {
	names := map[string]bool{}
	for _, flag := range n.Flags {
		names["--"+flag.Name] = true
	}
	for _, child := range n.Children {
		maps.Copy(names, flagNames(child))
	}
	return names
}

// A list is a repeatable flag, or a variable with commas. An empty element is a fault: a list that guards something must not
// vanish because a template left its variable empty.
type list []string

// Decode is kong's.
func (l *list) Decode(ctx *kong.DecodeContext) error {
	var text string
	if err := ctx.Scan.PopValueInto("value", &text); err != nil {
		return err
	}
	for element := range strings.SplitSeq(text, ",") {
		if element = strings.TrimSpace(element); element == "" {
			return errors.New("is empty; leave it out")
		}
		*l = append(*l, element)
	}
	return nil
}
