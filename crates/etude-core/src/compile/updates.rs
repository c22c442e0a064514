//! Where a kernel makes a gradient for an update alone, and can take the update's step block by block, the two are one: they
//! come one after the other in the order, become one step, and the gradient gets no storage.

use super::fuse::{self, Group};
use super::graph::{Base, Item, Items, Located, Work};
use super::lower::{Draft, DraftUpdate, DraftWork};
use crate::operation::Meta;
use etude_kernels::tile::Update;
use std::collections::{HashMap, HashSet};

/// The groups with those that had better run one right after the other joined, the kernel first.
pub(crate) struct Joined {
    pub groups: Vec<Group>,
    /// How many items of each give it its place in the program.
    pub lead: Vec<usize>,
    /// Groups that must run before another, though it reads nothing of them: they read what it overwrites.
    pub before: Vec<(usize, usize)>,
}

/// Joins each kernel with the elementwise work that its gradient is made for, where that makes no circle; if it pays at all.
pub(crate) fn pair(items: &Items, groups: Vec<Group>) -> Joined {
    if !pays(items) {
        return Joined { lead: groups.iter().map(Vec::len).collect(), groups, before: Vec::new() };
    }
    let mut graph = Order::new(items, &groups);
    for update in 0..groups.len() {
        if let Some(kernel) = gradient_of(items, &groups[update], &graph) {
            graph.join(items, &groups, kernel, update);
        }
    }
    // The kernel's group stands for the unit, and comes first in it.
    let lead: Vec<usize> = groups.iter().map(Vec::len).collect();
    let mut units = groups.clone();
    for (at, &unit) in graph.unit.iter().enumerate().filter(|(at, unit)| at != *unit) {
        units[unit].extend(&groups[at]);
    }
    let mut number = Vec::with_capacity(groups.len());
    let mut joined = Joined { groups: Vec::new(), lead: Vec::new(), before: Vec::new() };
    for (unit, group) in units.into_iter().enumerate() {
        number.push(joined.groups.len());
        if graph.unit[unit] == unit {
            joined.lead.push(lead[unit]);
            joined.groups.push(group);
        }
    }
    joined.before = graph.before.iter().map(|&(a, b)| (number[graph.unit[a]], number[graph.unit[b]])).collect();
    joined
}

/// The item whose one output is the gradient that an elementwise group reads, if nothing else reads it and its kernel can take
/// the group's step. Everything else that the group reads was there before.
fn gradient_of(items: &Items, group: &Group, graph: &Order) -> Option<usize> {
    let mut kernel = None;
    for &at in group {
        items.items[at].iteration()?;
        for input in &items.items[at].inputs {
            match input.base {
                Base::Item(from, _) if !group.contains(&from) && kernel.is_none_or(|kernel| kernel == from) => {
                    kernel = Some(from);
                }
                Base::Item(from, _) if !group.contains(&from) => return None,
                _ => {}
            }
        }
    }
    let kernel = kernel?;
    let alone = !graph.wanted[kernel] && graph.users[kernel].iter().all(|user| group.contains(user));
    (alone && takes_update(&items.items[kernel])).then_some(kernel)
}

fn takes_update(item: &Item) -> bool {
    let Work::Kernel(source) = &item.work else { return false };
    let metas: Vec<_> = item.inputs.iter().map(|input| Meta::new(input.window.shape, input.dtype)).collect();
    item.outputs.len() == 1 && source.operation().is_some_and(|operation| operation.takes_update(&metas))
}

/// What must run before what.
struct Order {
    users: Vec<Vec<usize>>,
    wanted: Vec<bool>,
    /// The group of each item, and the group that stands for it and what it is joined with.
    member: Vec<usize>,
    unit: Vec<usize>,
    /// For each unit those that run after it.
    after: Vec<Vec<usize>>,
    before: Vec<(usize, usize)>,
}

impl Order {
    fn new(items: &Items, groups: &[Group]) -> Order {
        let member = fuse::members(items, groups);
        let users = fuse::users(items);
        let mut after = vec![Vec::new(); groups.len()];
        for (from, users) in users.iter().enumerate() {
            after[member[from]].extend(users.iter().map(|&user| member[user]).filter(|&user| user != member[from]));
        }
        let unit = (0..groups.len()).collect();
        Order { wanted: fuse::wanted(items), users, member, unit, after, before: Vec::new() }
    }

    /// Makes one unit of the group of item `kernel` and group `update`, behind all others that read what the update
    /// overwrites; not if one of those waits for either.
    fn join(&mut self, items: &Items, groups: &[Group], kernel: usize, update: usize) {
        let kernel = self.member[kernel];
        let reads = |group: usize| groups[group].iter().flat_map(|&at| &items.items[at].inputs).map(|input| input.base);
        let overwritten: Vec<Base> = reads(update).filter(|&base| is_given(items, base)).collect();
        let mut others: Vec<usize> = (0..groups.len())
            .filter(|&group| group != update && reads(group).any(|base| overwritten.contains(&base)))
            .map(|group| self.unit[group])
            .collect();
        others.dedup();
        let mut seen = vec![false; groups.len()];
        let mut open = vec![self.unit[kernel], update];
        while let Some(at) = open.pop() {
            if others.contains(&at) {
                return;
            }
            if !std::mem::replace(&mut seen[at], true) {
                open.extend(self.after[at].iter().map(|&next| self.unit[next]));
            }
        }
        self.unit[update] = kernel;
        let after = std::mem::take(&mut self.after[update]);
        self.after[kernel].retain(|&next| next != update);
        self.after[kernel].extend(after);
        for other in others {
            self.after[other].push(kernel);
            self.before.push((other, kernel));
        }
    }
}

/// Whether what the plan may overwrite, parameters and what their updates remember, is more than caches keep.
fn pays(items: &Items) -> bool {
    #[cfg(test)]
    if tests::ALWAYS.get() {
        return true;
    }
    let mut seen: HashSet<Base> = HashSet::new();
    let inputs = items.items.iter().flat_map(|item| &item.inputs);
    let bytes = inputs.filter(|input| is_given(items, input.base) && seen.insert(input.base));
    Update::pays(bytes.map(|input| input.window.shape.count() * input.dtype.size()).sum())
}

/// Whether the base is data that the plan may overwrite.
fn is_given(items: &Items, base: Base) -> bool {
    matches!(base, Base::Leaf(leaf) if items.donated[leaf])
}

/// Makes one draft of a kernel and the update right behind it, if it pays.
pub(crate) fn join(items: &Items, drafts: Vec<Draft>) -> Vec<Draft> {
    if !pays(items) {
        return drafts;
    }
    let mut readers: HashMap<Base, usize> = HashMap::new();
    let read = drafts.iter().flat_map(|draft| &draft.inputs).chain(items.roots.iter().flatten());
    read.for_each(|input| *readers.entry(input.base).or_default() += 1);
    let mut joined: Vec<Draft> = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let Some(kernel) = joined.last_mut() else {
            joined.push(draft);
            continue;
        };
        let alone = readers.get(&Base::Item(kernel.item, 0)) == Some(&1);
        match gradient(items, kernel, &draft).filter(|_| alone) {
            Some((gradient, name)) => absorb(kernel, draft, gradient, name),
            None => joined.push(draft),
        }
    }
    joined
}

/// Which input of `update` is the gradient that `kernel` makes, if the two can be one, and what the update is called.
fn gradient(items: &Items, kernel: &Draft, update: &Draft) -> Option<(usize, &'static str)> {
    let (DraftWork::Kernel { update: None }, DraftWork::Tile { program, .. }) = (&kernel.work, &update.work) else {
        return None;
    };
    let made = update.inputs.iter().position(|input| input.base == Base::Item(kernel.item, 0))?;
    let count = kernel.metas[0].shape.count();
    let whole = |input: &Located| input.window.shape.count() == count && input.window.is_contiguous();
    if !takes_update(&items.items[kernel.item]) || !update.inputs.iter().all(whole) {
        return None;
    }
    let prepared = program.clone().prepare().ok()?;
    (prepared.gradient()? == made).then_some((made, prepared.known()?))
}

/// Makes `update` a part of the kernel's draft.
fn absorb(kernel: &mut Draft, update: Draft, gradient: usize, name: &str) {
    let DraftWork::Tile { program, scalars, .. } = update.work else { unreachable!("an update is a program") };
    let shape = [kernel.metas[0].shape[0], kernel.metas[0].shape[1]];
    kernel.work = DraftWork::Kernel { update: Some(DraftUpdate { program, shape, scalars }) };
    kernel.inputs.extend(update.inputs.iter().enumerate().filter(|&(at, _)| at != gradient).map(|(_, input)| *input));
    (kernel.outputs, kernel.metas) = (update.outputs, update.metas);
    kernel.name = format!("{}, {name}", kernel.name);
}

#[cfg(test)]
mod tests {
    use crate::runtime::capture::capture;
    use crate::{Tensor, randn};
    use std::cell::Cell;

    thread_local! {
        /// Whether updates follow their gradients however small they are.
        pub(super) static ALWAYS: Cell<bool> = const { Cell::new(false) };
    }

    /// One step of Adam: new parameters and averages.
    fn adam([w, m, v]: [Tensor; 3], g: &Tensor) -> [Tensor; 3] {
        let m = &m * 0.9 + g * 0.1;
        let v = &v * 0.999 + (g * g) * 0.001;
        [&w - (&m * 0.01) / (v.sqrt() * 1.5 + 1e-8), m, v]
    }

    fn data<const N: usize>(shapes: [[usize; 2]; N], seed: u64) -> [Tensor; N] {
        crate::random::seed(seed);
        let made = shapes.map(|shape| randn(shape).square());
        Tensor::eval_all(&made).expect("data");
        made.map(|tensor| tensor.detach())
    }

    #[test]
    fn an_update_takes_its_step_as_its_gradient_is_made() {
        ALWAYS.set(true);
        let (m, k, n) = (130, 150, 140);
        let operands = || data([[k, m], [k, n], [m, n], [m, n], [m, n]], 1);
        let found = {
            let [dy, x, w, m, v] = operands();
            // The other reader of w must come first.
            let back = dy.matmul(&w);
            let g = dy.t().matmul(&x);
            let [w, m, v] = adam([w, m, v], &g);
            drop(g);
            let wanted = [w, m, v, back];
            let plan = crate::compile::compile(capture(&wanted).graph()).expect("a plan");
            let names: Vec<&str> = plan.steps.iter().map(|step| step.name.as_str()).collect();
            assert_eq!(names, ["matmul", "matmul, adam"]);
            assert!(plan.peak_bytes <= 4 * k * n, "the gradient has no storage: {} bytes", plan.peak_bytes);
            Tensor::eval_all(&wanted).expect("a step");
            wanted.map(|tensor| tensor.to_vec::<f32>())
        };
        ALWAYS.set(false);
        let [dy, x, w, m, v] = operands();
        let (back, g) = (dy.matmul(&w), dy.t().matmul(&x));
        Tensor::eval_all(&[back.clone(), g.clone()]).expect("the gradient");
        let [w, m, v] = adam([w, m, v], &g);
        assert_eq!(found, [w, m, v, back].map(|tensor| tensor.to_vec::<f32>()));
    }

    #[test]
    fn updates_that_wait_for_each_other_are_not_both_joined() {
        // Each gradient is made of the other's parameters.
        ALWAYS.set(true);
        let [a, b, ma, mb, va, vb] = data([[150, 150]; 6], 2);
        let (ga, gb) = (b.matmul(&b), a.matmul(&a));
        let ([a, ma, va], [b, mb, vb]) = (adam([a, ma, va], &ga), adam([b, mb, vb], &gb));
        drop((ga, gb));
        let plan = crate::compile::compile(capture(&[a, ma, va, b, mb, vb]).graph()).expect("a plan");
        ALWAYS.set(false);
        let names: Vec<&str> = plan.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names.iter().filter(|name| **name == "matmul, adam").count(), 1, "{names:?}");
    }
}
