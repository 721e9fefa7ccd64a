//! Tests of receipts: the one that holds, and every way in which one does not.

use gangline_types::{
    GpuId, MicroCredits, Seconds, Text, UnixSeconds, cluster::ClusterState, receipt::EndedBecause,
};
use gangline_wire::SigningKey;
use zeroize::Zeroizing;

use super::*;

fn signed(receipt: Receipt, key: &SigningKey) -> SignedReceipt {
    SignedReceipt {
        receipt,
        network_key: key.public(),
        network_signature: STANDARD.encode(key.sign(&receipt.signing_bytes())),
        machine_signature: Some(STANDARD.encode([7; 64])),
    }
}

fn receipt() -> Receipt {
    Receipt {
        cluster: ClusterId::from_bytes([1; 16]),
        gpu: GpuId::from_bytes([2; 16]),
        started_at: Some(UnixSeconds(1000)),
        ended_at: UnixSeconds(1100),
        used: Seconds(90),
        price_per_hour: MicroCredits(3_600_000),
        cost: MicroCredits(90_000),
        because: EndedBecause::Released,
    }
}

fn view() -> ClusterView {
    ClusterView {
        id: ClusterId::from_bytes([1; 16]),
        gpu: GpuId::from_bytes([2; 16]),
        model: Text::default(),
        state: ClusterState::Released,
        detail: Text::default(),
        price_per_hour: MicroCredits(3_600_000),
        created_at: UnixSeconds(900),
        started_at: Some(UnixSeconds(1000)),
        ended_at: Some(UnixSeconds(1100)),
        until: UnixSeconds(4500),
        used: Seconds(90),
        cost: MicroCredits(90_000),
        receipt: None,
    }
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([n; 32]))
}

#[test]
fn a_receipt_holds_as_it_is_and_in_no_other_form() {
    assert_eq!(check(&view(), &signed(receipt(), &key(1))), Ok(()));
    let lost = SignedReceipt { machine_signature: None, ..signed(receipt(), &key(1)) };
    assert_eq!(check(&view(), &lost), Ok(()));

    type Change = fn(&mut SignedReceipt);
    let check_refused = |change: Change, sign_again: bool, why: &str| {
        let mut changed = signed(receipt(), &key(1));
        change(&mut changed);
        if sign_again {
            changed = signed(changed.receipt, &key(1));
        }
        let found = check(&view(), &changed).unwrap_err();
        assert!(found.contains(why), "{found}");
    };
    check_refused(|r| r.receipt.because = EndedBecause::Failed, false, "does not verify");
    check_refused(|r| r.network_key = key(2).public(), false, "does not verify");
    check_refused(|r| r.network_signature.clear(), false, "malformed");
    check_refused(|r| r.machine_signature = Some("x".into()), false, "malformed");
    // Even where the network signs them.
    check_refused(|r| r.receipt.cluster = ClusterId::from_bytes([9; 16]), true, "another cluster");
    check_refused(|r| r.receipt.gpu = GpuId::from_bytes([9; 16]), true, "another GPU");
    check_refused(|r| r.receipt.price_per_hour.0 += 1, true, "another price");
    check_refused(|r| r.receipt.used.0 = 101, true, "charges 101 s of 100 s");
    check_refused(|r| r.receipt.started_at = None, true, "charges 90 s of 0 s");
    check_refused(|r| r.receipt.cost.0 += 1, true, "cost 0.090000, not 0.090001");
}
