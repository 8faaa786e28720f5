package kvregistry

import (
	"context"

	"github.com/catga/catga-go/internal/provision"
)

// permitted returns ErrDenied with everything that this node needs and its user
// may not do, as far as the server tells.
func (s *session) permitted(ctx context.Context) error {
	c := s.cluster
	records, beats := c.RecordStream(), c.BeatStream()
	granted, err := provision.AskPermissions(ctx, s.nc)
	if err != nil {
		return err
	}
	need := provision.Needs{
		Publish: []string{
			"$JS.API.STREAM.INFO." + records, "$JS.API.STREAM.INFO." + beats,
			"$JS.API.DIRECT.GET." + records, "$JS.API.STREAM.MSG.GET." + records,
		},
		Subscribe: []string{c.RegistryAll()},
	}
	if s.own == nil {
		return granted.Lack(need)
	}
	id := s.cfg.Node
	need.Publish = append(need.Publish,
		c.RecordSubject("*"), c.BeatSubject(id),
		"$JS.API.DIRECT.GET."+records+"."+c.RecordSubject(id),
		"$JS.API.DIRECT.GET."+beats, "$JS.API.DIRECT.GET."+beats+"."+c.BeatSubject("*"),
		c.PingAny("*"), c.Ask("*"), c.On("*"))
	need.Subscribe = append(need.Subscribe, c.PingAny(id), c.Ask(id), c.On("*"))
	if err := granted.Lack(need); err != nil {
		return err
	}
	if err := granted.Lack(provision.Needs{
		Publish:   []string{"$JS.API.CONSUMER.CREATE." + records + ".*." + c.Tripwire(), "$JS.API.CONSUMER.INFO." + records + ".*"},
		Subscribe: []string{c.TripwireDeleted("*")},
	}); err != nil {
		s.log.Warn("no tripwires: crashes are noticed by probes only", "node", id, "err", err)
	}
	return nil
}
