package microsrv

import (
	"encoding/json"
	"time"
)

// Instance is one running copy of a service as it shows itself.
type Instance struct {
	// Name is the service's, A-Z a-z 0-9 _ - only; instances share it.
	Name string
	// ID tells the instances of a service apart.
	ID string
	// Version must be a semantic version; see Version.
	Version string
	// Description is one line for people.
	Description string
	// Metadata is what the instance says of itself.
	Metadata map[string]string
	// Started is when it began.
	Started time.Time
	// Endpoints are what it can be asked for.
	Endpoints []Endpoint
}

// Endpoint is one thing that an instance can be asked for, and how often it was.
type Endpoint struct {
	// Name is the endpoint's, A-Z a-z 0-9 _ - only.
	Name string
	// Subject is where it is asked.
	Subject string
	// QueueGroup is the group in which its instances share the requests.
	QueueGroup string
	// Metadata is what is worth knowing of it.
	Metadata map[string]string

	// Requests counts what it was asked, Errors what failed of that.
	Requests, Errors uint64
	// LastError is the text of the newest failure.
	LastError string
	// Total is the time that requests took in all, Mean by request.
	Total, Mean time.Duration
	// Data is further figures, encoded as JSON; nil is none.
	Data any
}

// Types of answers, which tell a reader what it has before it.
const (
	typePing  = "io.nats.micro.v1.ping_response"
	typeInfo  = "io.nats.micro.v1.info_response"
	typeStats = "io.nats.micro.v1.stats_response"
)

// identity is what every answer begins with.
type identity struct {
	Name     string            `json:"name"`
	ID       string            `json:"id"`
	Version  string            `json:"version"`
	Metadata map[string]string `json:"metadata"`
	Type     string            `json:"type"`
}

type infoAnswer struct {
	identity
	Description string         `json:"description"`
	Endpoints   []endpointInfo `json:"endpoints"`
}

type endpointInfo struct {
	Name       string            `json:"name"`
	Subject    string            `json:"subject"`
	QueueGroup string            `json:"queue_group"`
	Metadata   map[string]string `json:"metadata"`
}

type statsAnswer struct {
	identity
	Started   time.Time       `json:"started"`
	Endpoints []endpointStats `json:"endpoints"`
}

type endpointStats struct {
	Name       string        `json:"name"`
	Subject    string        `json:"subject"`
	QueueGroup string        `json:"queue_group"`
	Requests   uint64        `json:"num_requests"`
	Errors     uint64        `json:"num_errors"`
	LastError  string        `json:"last_error"`
	Total      time.Duration `json:"processing_time"`
	Mean       time.Duration `json:"average_processing_time"`
	Data       any           `json:"data,omitempty"`
}

// Answer returns the instance's answer to verb as JSON. The error is about Data
// that cannot be encoded, or a verb that is none.
func (i Instance) Answer(verb Verb) ([]byte, error) {
	who := identity{Name: i.Name, ID: i.ID, Version: i.Version, Metadata: i.Metadata}
	switch verb {
	case Ping:
		who.Type = typePing
		return json.Marshal(who)
	case Info:
		who.Type = typeInfo
		a := infoAnswer{identity: who, Description: i.Description, Endpoints: make([]endpointInfo, 0, len(i.Endpoints))}
		for _, e := range i.Endpoints {
			a.Endpoints = append(a.Endpoints, endpointInfo{e.Name, e.Subject, e.QueueGroup, e.Metadata})
		}
		return json.Marshal(a)
	case Stats:
		who.Type = typeStats
		a := statsAnswer{identity: who, Started: i.Started.UTC(), Endpoints: make([]endpointStats, 0, len(i.Endpoints))}
		for _, e := range i.Endpoints {
			a.Endpoints = append(a.Endpoints, endpointStats{
				Name: e.Name, Subject: e.Subject, QueueGroup: e.QueueGroup,
				Requests: e.Requests, Errors: e.Errors, LastError: e.LastError,
				Total: e.Total, Mean: e.Mean, Data: e.Data,
			})
		}
		return json.Marshal(a)
	default:
		return nil, errVerb
	}
}
