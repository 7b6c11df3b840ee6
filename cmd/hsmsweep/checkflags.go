package main

import (
	"fmt"
	"time"
)

const (
	mostSteps        = 1000             // for which a process has processor time while their locks run
	usualTermination = 30 * time.Second // of Container Apps and Kubernetes, where none is set
)

// judgeFlags judges what run would be told, as far as that takes no look at Azure. What it refuses was refused before.
func judgeFlags(s settings) []finding {
	findings := []finding{fine("flags.concurrency", "%d", s.concurrency), fine("flags.shutdownGrace", "%s", brief(s.grace))}
	if s.concurrency > mostSteps {
		findings[0] = warning("flags.concurrency",
			fmt.Sprintf("%d: ARM takes 10 deletions and 25 reads a second of a subscription; the rest holds locks and waits", s.concurrency),
			fmt.Sprintf("set --concurrency to %d or less, and take more replicas", mostSteps))
	}
	if s.grace > usualTermination-closeTimeout {
		findings[1] = warning("flags.shutdownGrace",
			fmt.Sprintf("%s: Container Apps and Kubernetes kill after %s unless they are told otherwise", brief(s.grace), brief(usualTermination)),
			"see that the termination grace period is longer")
	}
	return findings
}
