package loss_test

import (
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/catga/catga-go/cluster"
)

// of returns the target that the verb takes.
func (t target) of() cluster.Target {
	switch t.Kind {
	case toNode:
		return cluster.To(t.IDs[0])
	case toAny:
		return cluster.Any()
	case anyWhere:
		return cluster.Any(cluster.Where("zone=" + t.Zone))
	case toOthers:
		return cluster.Others()
	case toNodes:
		return cluster.Nodes(t.IDs...)
	case allWhere:
		return cluster.All(cluster.Where("zone=" + t.Zone))
	default:
		return cluster.All()
	}
}

// someTarget returns a target among the nodes, every kind as often as another.
func someTarget(random *rand.Rand, zones map[string]string) target {
	ids := slices.Sorted(maps.Keys(zones))
	random.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	kinds := []aim{toNode, toAny, anyWhere, toAll, toOthers, allWhere, toNodes}
	t := target{Kind: kinds[random.IntN(len(kinds))]}
	switch t.Kind {
	case toNode:
		t.IDs = ids[:1]
	case toNodes:
		t.IDs = ids[:1+random.IntN(len(ids))]
	case anyWhere, allWhere:
		t.Zone = zones[ids[0]]
	}
	return t
}

// someDeed is success in 9 of 10 cases.
func someDeed(random *rand.Rand) deed {
	switch random.IntN(20) {
	case 0:
		return fail
	case 1:
		return failOnce
	default:
		return succeed
	}
}
