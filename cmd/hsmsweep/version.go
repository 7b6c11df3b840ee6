package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version and commit are set by the build: -ldflags "-X main.version=v1.2.3 -X main.commit=abcdef0".
var (
	version = "dev"
	commit  = ""
)

type versionCmd struct{}

// Run is the command.
func (versionCmd) Run(std streams) error {
	_, err := fmt.Fprintf(std.out, "hsmsweep %s\ncommit %s\n%s %s/%s\n", version, revision(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// revision is the commit this was built from: told by the build, else known to Go.
func revision() string {
	if commit != "" {
		return commit
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}
