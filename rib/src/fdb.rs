//! Behind which VXLAN endpoint a MAC address is: as workers learned it, and as the kernel's own VXLAN devices have it.
//!
//! The kernel's device and the gateway's interface are two ends of the same thing when they have the same VNI: whoever fills the
//! device (FRR's EVPN, `bridge fdb`) so tells the gateway. Of two that speak of one address the later one is believed; the
//! kernel takes back only what it said itself.

use std::net::IpAddr;

use net::{FdbChange, IfIndex, InterfaceId, Mac, Vni};

use crate::connected::LOWEST;
use crate::group::Target;
use crate::interface::Attachment;
use crate::rib::Rib;

impl Rib {
    /// Says behind which VXLAN endpoint a MAC of a VXLAN interface lives; `None` forgets it.
    pub fn fdb(&mut self, interface: InterfaceId, mac: Mac, vtep: Option<IpAddr>) {
        let old = match vtep {
            Some(vtep) => self.fdb.insert((interface, mac), vtep),
            None => self.fdb.remove(&(interface, mac)),
        };
        let host = self.interfaces.get(&interface).and_then(|i| i.host);
        let (Some(host), true) = (host, old != vtep) else {
            return;
        };
        self.work.pending += 1;
        let on_host = self
            .neighbors
            .range((host, LOWEST)..)
            .take_while(|((h, _), _)| *h == host);
        for ((_, address), _) in on_host.filter(|(_, state)| state.mac() == Some(mac)) {
            self.next_hops
                .dirty
                .extend(self.next_hops.find(Target::Neighbor(interface, *address)));
        }
    }

    /// Takes in an entry of a kernel device.
    pub(crate) fn kernel_fdb(&mut self, change: &FdbChange) {
        let key = (change.interface, change.mac);
        let old = match change.vtep {
            Some(vtep) => self.kernel_fdb.insert(key, vtep),
            None => self.kernel_fdb.remove(&key),
        };
        let vni = self.kernel_vnis.get(&change.interface).copied();
        if let Some(id) = vni.and_then(|vni| self.of_vni(vni)) {
            self.follow_kernel(id, change.mac, old, change.vtep);
        }
    }

    /// A kernel interface is a VXLAN device of this network, or is none.
    pub(crate) fn kernel_vni(&mut self, device: IfIndex, vni: Option<Vni>) {
        let old = match vni {
            Some(vni) => self.kernel_vnis.insert(device, vni),
            None => self.kernel_vnis.remove(&device),
        };
        if old == vni {
            return;
        }
        let entries: Vec<(Mac, IpAddr)> = self.kernel_entries(device).collect();
        for (id, present) in
            [(old, false), (vni, true)].map(|(vni, present)| (vni.and_then(|v| self.of_vni(v)), present))
        {
            let Some(id) = id else { continue };
            for (mac, vtep) in &entries {
                let vtep = Some(*vtep);
                let (before, after) = if present { (None, vtep) } else { (vtep, None) };
                self.follow_kernel(id, *mac, before, after);
            }
        }
    }

    /// An interface of ours came or changed: what the kernel's device of its network has is its.
    pub(crate) fn adopt_kernel_fdb(&mut self, id: InterfaceId) {
        let interface = self.interfaces.get(&id);
        let Some(Attachment::Vxlan { vni, .. }) = interface.map(|interface| interface.attachment) else {
            return;
        };
        let devices = self.kernel_vnis.iter().filter(|(_, v)| **v == vni);
        let entries: Vec<(Mac, IpAddr)> = devices.flat_map(|(device, _)| self.kernel_entries(*device)).collect();
        for (mac, vtep) in entries {
            self.fdb(id, mac, Some(vtep));
        }
    }

    fn kernel_entries(&self, device: IfIndex) -> impl Iterator<Item = (Mac, IpAddr)> + '_ {
        let all = (device, Mac([0; 6]))..=(device, Mac([0xff; 6]));
        self.kernel_fdb.range(all).map(|((_, mac), vtep)| (*mac, *vtep))
    }

    /// The kernel's entry went from one endpoint to another, or came, or went.
    fn follow_kernel(&mut self, id: InterfaceId, mac: Mac, old: Option<IpAddr>, new: Option<IpAddr>) {
        if new.is_some() || self.fdb.get(&(id, mac)).copied() == old {
            self.fdb(id, mac, new);
        }
    }

    fn of_vni(&self, vni: Vni) -> Option<InterfaceId> {
        let has = |attachment: &Attachment| matches!(attachment, Attachment::Vxlan { vni: v, .. } if *v == vni);
        let mut interfaces = self.interfaces.values();
        interfaces.find(|interface| has(&interface.attachment)).map(|i| i.id)
    }
}
