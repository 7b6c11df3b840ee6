package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"hsmsweep/internal/emulator"
	"hsmsweep/internal/emulator/arm"
	"hsmsweep/internal/emulator/servicebus/broker"
)

type emulatorCmd struct {
	AMQPAddr     string `name:"amqp-addr" help:"Service Bus: AMQP, plain and TLS on one port." default:"127.0.0.1:5672"`
	AdminAddr    string `name:"admin-addr" help:"Service Bus: the administration API, plain and TLS on one port." default:"127.0.0.1:5300"`
	ARMAddr      string `name:"arm-addr" help:"ARM, over TLS with a generated authority." default:"127.0.0.1:8443"`
	IdentityAddr string `name:"identity-addr" help:"The managed identity endpoint." default:"127.0.0.1:8081"`
	Config       string `help:"Entities, in the format of Microsoft's Service Bus emulator; otherwise the default queue, topic and subscription." type:"path" placeholder:"Config.json"`
	ARMSeed      string `name:"arm-seed" help:"Pools, connections and how ARM answers for them; otherwise every connection exists and is deleted at once." type:"path" placeholder:"arm.json"`
	StateDir     string `help:"Keep what Service Bus holds in this folder, across restarts and crashes; entities in it win over --config." type:"path" placeholder:"folder"`
	LogLevel     string `help:"debug, info, warn or error." default:"warn"`
}

// Help is shown below the flags.
func (emulatorCmd) Help() string {
	return `Prints, once it serves, one export line for each variable that hsmsweep run needs:
  hsmsweep emulator > env.sh &
  . ./env.sh && hsmsweep run`
}

// Run is the command.
func (c *emulatorCmd) Run(ctx context.Context, std streams) error {
	log, err := newLogger(std.err, "text", c.LogLevel)
	if err != nil {
		return err
	}
	entities, err := c.entities()
	if err != nil {
		return config(fmt.Errorf("--config: %w", err))
	}
	azure, err := emulator.New(emulator.Options{Entities: entities, StateDir: c.StateDir, ARM: arm.Options{AutoCreate: c.ARMSeed == ""}, Log: log}, hostsOf(c.ARMAddr, c.AMQPAddr, c.AdminAddr)...)
	if err != nil {
		return err
	}
	if err := c.seed(azure.ARM); err != nil {
		return config(fmt.Errorf("--arm-seed: %w", err))
	}
	folder, err := os.MkdirTemp("", "hsmsweep-emulator-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	certificate := filepath.Join(folder, "authority.pem")
	if err := os.WriteFile(certificate, azure.Authority.PEM(), 0o644); err != nil {
		return err
	}

	listeners, err := listen(map[string]string{"--amqp-addr": c.AMQPAddr, "--arm-addr": c.ARMAddr, "--identity-addr": c.IdentityAddr})
	if err != nil {
		return err
	}
	amqp, resourceManager, tokens := listeners["--amqp-addr"], listeners["--arm-addr"], listeners["--identity-addr"]
	azure.Serve(amqp, resourceManager, tokens)
	defer azure.Close()
	administration, err := net.Listen("tcp", c.AdminAddr)
	switch {
	case err == nil:
		azure.ServeAdmin(administration)
	case c.AdminAddr == defaultAdminAddr:
		log.WarnContext(ctx, "the administration API is served at --amqp-addr only", "error", err)
	default:
		return config(fmt.Errorf("--admin-addr: %w", err))
	}
	for _, v := range environment(azure, reachable(amqp), reachable(resourceManager), reachable(tokens), certificate) {
		fmt.Fprintf(std.out, "export %s=%s\n", v.name, shellQuote(v.value))
	}
	<-ctx.Done()
	return nil
}

func (c *emulatorCmd) entities() (broker.Config, error) {
	if c.Config == "" {
		return broker.DefaultConfig(), nil
	}
	f, err := os.Open(c.Config)
	if err != nil {
		return broker.Config{}, err
	}
	defer f.Close()
	return broker.LoadConfig(f)
}

func (c *emulatorCmd) seed(sim *arm.Simulator) error {
	if c.ARMSeed == "" {
		return nil
	}
	f, err := os.Open(c.ARMSeed)
	if err != nil {
		return err
	}
	defer f.Close()
	return sim.Seed(f)
}

// defaultAdminAddr is that of Microsoft's emulator, which may be running too, or another of ours. The API is at --amqp-addr as
// well, so this alone is no reason not to start.
const defaultAdminAddr = "127.0.0.1:5300"

// listen opens every address or none; each fault names its flag.
func listen(addrs map[string]string) (map[string]net.Listener, error) {
	listeners := make(map[string]net.Listener)
	var faults []error
	for flag, addr := range addrs {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", flag, err))
			continue
		}
		listeners[flag] = l
	}
	if len(faults) > 0 {
		for _, l := range listeners {
			faults = append(faults, l.Close())
		}
		return nil, config(errors.Join(faults...))
	}
	return listeners, nil
}

type variable struct{ name, value string }

// environment is what hsmsweep run needs to use the emulator as it would use Azure from a container app.
func environment(azure *emulator.Emulator, amqp, resourceManager, tokens, certificate string) []variable {
	return []variable{
		{"HSMSWEEP_CONNECTION_STRING", emulator.ConnectionString(amqp)},
		{"HSMSWEEP_ARM_ENDPOINT", "https://" + resourceManager},
		{"HSMSWEEP_ARM_AUDIENCE", emulator.Audience},
		{"SSL_CERT_FILE", certificate},
		{"IDENTITY_ENDPOINT", emulator.IdentityURL(tokens)},
		{"IDENTITY_HEADER", azure.Identity.Header()},
		{"AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential"},
	}
}

// reachable is a listener's address as a client on this host dials it: an unspecified address is everywhere, so here too.
func reachable(l net.Listener) string {
	host, port, _ := net.SplitHostPort(l.Addr().String()) // a TCP listener's address always splits
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// hostsOf are the hosts that a certificate must name.
func hostsOf(addrs ...string) []string {
	var hosts []string
	for _, addr := range addrs {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			hosts = append(hosts, cmp.Or(host, "localhost"))
		}
	}
	return hosts
}

// shellQuote makes a value safe for eval in any POSIX shell.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
