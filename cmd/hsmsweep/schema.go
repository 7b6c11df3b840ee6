package main

import (
	"encoding/json"

	"hsmsweep/worker"
)

type schemaCmd struct {
	Of string `arg:"" enum:"request,event" help:"request: the body of a message on the request queue; event: what tells how a request ended."`
}

// Run is the command.
func (c *schemaCmd) Run(std streams) error {
	schema := worker.RequestSchema()
	if c.Of == "event" {
		schema = worker.EventSchema()
	}
	out := json.NewEncoder(std.out)
	out.SetIndent("", "  ")
	return out.Encode(schema)
}
