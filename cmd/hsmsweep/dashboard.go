package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/internal/dashboard"
)

type dashboardCmd struct {
	connection
	Addr         string `help:"Where the page is served. Elsewhere than on loopback only with --token." default:"127.0.0.1:8090"`
	Token        string `help:"That visitors must give; better as a variable, since others can see this machine's processes." placeholder:"SECRET"`
	AllowActions bool   `help:"Let visitors cancel, expedite, resubmit and drop."`
}

// Help is shown below the flags.
func (dashboardCmd) Help() string {
	return `Prints the page's address once it is served, and serves until interrupted. Reads Service Bus by peeking, and only
while a page is open: nothing is locked or taken away, and it does not matter how many workers run. A page on another
address than loopback speaks plain HTTP: put something with TLS before it.`
}

// Run is the command.
func (c *dashboardCmd) Run(ctx context.Context, std streams) error {
	if err := config(c.check(), c.checkPage()); err != nil {
		return err
	}
	log, err := newLogger(std.err, "text", "info")
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return config(fmt.Errorf("--addr: %w", err))
	}
	defer listener.Close()
	page, stop, err := c.page(ctx, std, log)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Fprintln(std.out, pageURL(listener))
	return page.Serve(ctx, listener)
}

func (c *dashboardCmd) checkPage() error {
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		return fmt.Errorf("--addr is %q, expected HOST:PORT", c.Addr)
	}
	if !dashboard.IsLoopback(c.Addr) && c.Token == "" {
		return fmt.Errorf("--addr is %q, which others can reach: that needs a --token", c.Addr)
	}
	return nil
}

// page makes the page, and what ends its connections.
func (c *dashboardCmd) page(ctx context.Context, std streams, log *slog.Logger) (*dashboard.Dashboard, func(), error) {
	operator, stop, err := c.operator(ctx, std.err)
	if err != nil {
		return nil, nil, err
	}
	client, err := c.dial(defaultCredential(cloud.AzurePublic))
	if err != nil {
		stop()
		return nil, nil, err
	}
	page := dashboard.New(dashboard.Options{Operator: operator, Queue: c.Queue, Token: c.Token, AllowActions: c.AllowActions, Log: log,
		OpenEvents: func() (*azservicebus.Receiver, error) { return c.openEvents(client) }})
	return page, func() {
		closeClient(ctx, client)
		stop()
	}, nil
}

// pageURL is where a browser on this machine finds the page.
func pageURL(l net.Listener) string { return "http://" + reachable(l) + "/" }
