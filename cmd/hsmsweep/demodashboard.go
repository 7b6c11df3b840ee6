package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"time"

	"hsmsweep/internal/emulator"
	"hsmsweep/internal/emulator/arm"
)

// dashboardSubscription is the subscription of the demo's topic that the dashboard reads.
const dashboardSubscription = "dashboard"

// lingering are sent when the samples have ended, so that there is something to look at. Each waits in another way.
var lingering = []sample{
	{name: "slow", pool: samplePool, found: answers(started(arm.Operation{Polls: 1000, RetryAfter: "20"}))},
	{name: "slower", pool: samplePool, found: answers(started(arm.Operation{Header: arm.HeaderAsyncOperation, Polls: 1000, RetryAfter: "90"}))},
	{name: "tonight", pool: samplePool, body: request(samplePool, "tonight", `,"notBefore":"`+time.Now().Add(6*time.Hour).UTC().Format(time.RFC3339)+`","ticket":{"system":"tickets","id":"CHG0012345"}`)},
	{name: "unanswered", pool: samplePool, found: answers(arm.Answer{Status: 503, RetryAfter: "300"})},
}

// serveDashboard serves the page until ctx ends, or stop is called, which waits for it and has its error. Watched ends with the page.
func (d *demo) serveDashboard(ctx context.Context, std streams) (watched context.Context, stop func() error, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	c := dashboardCmd{AllowActions: true, connection: connection{ConnectionString: emulator.ConnectionString(d.addr),
		Queue: d.settings.queue, Events: d.settings.events, Subscription: dashboardSubscription}}
	page, end, err := c.page(ctx, std, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	watched, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() {
		defer cancel()
		served <- page.Serve(watched, listener)
	}()
	fmt.Fprintf(std.out, "The dashboard is at %s\n\n", pageURL(listener))
	showPage(std.out, pageURL(listener))
	return watched, func() error {
		cancel()
		defer end()
		return <-served
	}, nil
}

// showPage shows a page to the person at the terminal, if there is one, and a program for it.
func showPage(out io.Writer, url string) {
	if !isTerminal(out) {
		return
	}
	for _, name := range []string{"xdg-open", "open"} {
		if path, err := exec.LookPath(name); err == nil {
			if show := exec.Command(path, url); show.Start() == nil {
				go func() { _ = show.Wait() }() // the browser may outlive the demo
			}
			return
		}
	}
}

// linger goes on with a worker until nobody watches any more.
func (d *demo) linger(watched context.Context, samples bool, out io.Writer) error {
	if watched.Err() != nil {
		return nil
	}
	stop, err := d.work(watched, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer stop()
	if samples {
		if err := d.sendLingering(watched); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "\nThe dashboard goes on until you interrupt it.")
	<-watched.Done()
	return nil
}

func (d *demo) sendLingering(ctx context.Context) error {
	sender, err := d.client.NewSender(d.settings.queue, nil)
	if err != nil {
		return err
	}
	for _, s := range lingering {
		if _, err := send(ctx, sender, d.settings.queue, d.tracing, s.name, []byte(s.text())); err != nil {
			return err
		}
	}
	return sender.Close(ctx)
}
